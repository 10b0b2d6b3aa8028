//go:build kernel

package packet

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// An endpoint on another node whose own address and port is a diverted frontend, too, gets what IPVS sends it. So it is with hostNetwork
// pods behind external IPs that are the nodes' own, and where another Service claims the endpoint's address.
func TestEndpointIsFrontend(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	far := w.Pod("far1")
	for i, proto := range protocols {
		t.Run(proto.String(), func(t *testing.T) {
			claims, other := service(i, proto), service(10+i, proto)
			claims.Ports[0].Port = podPort
			claims.ExternalIPs = []netip.Addr{far.Addr(false), far.Addr(true)}
			for _, svc := range []plan.Service{claims, other} {
				p.set(svc, w.slices(svc.Name, proto, []endpoint{ready("far1", false)})...)
			}
			p.settle()
			for _, from := range []source{fromPod, fromNode} {
				for _, to := range frontends {
					for _, svc := range []plan.Service{claims, other} {
						for _, v6 := range []bool{false, true} {
							w.answersFrom(t, p, cell{from: from, to: to, at: w.address(svc, to, v6), proto: proto})
						}
					}
				}
			}
		})
	}
}

// answersFrom wants the answer of far1, which sees a pod that asks a cluster IP, and of all others the node.
func (w *world) answersFrom(t *testing.T, p *proxy, c cell) {
	t.Helper()
	a := w.Ask(context.Background(), w.host(c.from), c.proto, c.at, lab.Wait(time.Second))
	want := p.nodeAddresses()
	if c.from == fromPod && c.to == toClusterIP {
		want = []netip.Addr{w.host(c.from).Addr(c.at.Addr().Is6())}
	}
	if a.Err != nil || a.Who != "far1" || !slices.Contains(want, a.Source.Addr()) {
		t.Errorf("%s asks the %s %v: %v, and it sees %v", c.from, c.to, c.at, a, a.Source)
	}
}
