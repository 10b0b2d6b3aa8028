//go:build kernel

package packet

import (
	"fmt"
	"net/netip"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// podPort is where every pod serves, with every protocol.
const podPort = 8080

var protocols = []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}

// A world is a laboratory in which every pod serves.
type world struct {
	*lab.Lab
	t       *testing.T
	servers map[string][]*lab.Server // by pod
}

// pods of the laboratory: two here that serve, one here that only asks, and two elsewhere of which the first serves.
var (
	herePods = []string{"pod1", "pod2", "asker"}
	farPods  = []string{"far1", "faraway"}
	serving  = []string{"pod1", "pod2", "far1"}
)

func newWorld(t *testing.T, cfg lab.Config) *world {
	t.Helper()
	cfg.Pods, cfg.RemotePods, cfg.RemoteServices = herePods, farPods, true
	l, err := lab.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Lab: l, t: t, servers: map[string][]*lab.Server{}}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, pod := range serving {
		for _, proto := range protocols {
			s, err := l.Serve(l.Pod(pod), proto, podPort, pod)
			if err != nil {
				t.Fatalf("%v on %s: %v", proto, pod, err)
			}
			w.servers[pod] = append(w.servers[pod], s)
		}
	}
	return w
}

// hosts by the sources that they stand for.
func (w *world) host(from source) *lab.Host {
	switch from {
	case fromPod:
		return w.Pod("asker")
	case fromEndpoint:
		return w.Pod("pod1")
	case fromClosed:
		return w.Pod("pod2")
	case fromNode:
		return w.Node
	case fromFarSelf:
		return w.Pod("far1")
	case fromFarPod:
		return w.Pod("faraway")
	}
	return w.Client
}

// slices returns one slice a family for endpoints.
func (w *world) slices(name plan.Name, proto inet.Protocol, in []endpoint) []plan.Slice {
	var out []plan.Slice
	for _, v6 := range []bool{false, true} {
		s := plan.Slice{Service: name, Ports: []plan.SlicePort{{Name: "p", Proto: proto, Port: podPort}}}
		for _, e := range in {
			node := "node2"
			if e.here {
				node = "node1"
			}
			s.Endpoints = append(s.Endpoints, plan.Endpoint{
				Addr: w.Pod(e.pod).Addr(v6), Node: node, Ready: e.ready, Serving: e.serving, Terminating: e.terminating,
			})
		}
		out = append(out, s)
	}
	return out
}

// nth returns the n-th address of a network.
func nth(n lab.Network, v6 bool, i int) netip.Addr {
	a := n.Prefix(v6).Addr()
	b := a.AsSlice()
	b[len(b)-1] += byte(i)
	b[len(b)-2] += byte(i >> 8)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// service returns the n-th Service of a test: with addresses of every kind in both families.
func service(n int, proto inet.Protocol) plan.Service {
	svc := plan.Service{
		Name:  plan.Name{Namespace: "test", Name: fmt.Sprintf("service-%03d", n)},
		Ports: []plan.Port{{Name: "p", Proto: proto, Port: 80, NodePort: uint16(30000 + n)}},
	}
	for _, v6 := range []bool{false, true} {
		svc.ClusterIPs = append(svc.ClusterIPs, nth(lab.Services[0], v6, 256+n))
		svc.ExternalIPs = append(svc.ExternalIPs, nth(lab.Services[1], v6, n))
		svc.LoadBalancerIPs = append(svc.LoadBalancerIPs, nth(lab.Services[1], v6, 128+n))
	}
	return svc
}

// address is where a frontend of a Service is reached.
func (w *world) address(svc plan.Service, to frontend, v6 bool) netip.AddrPort {
	i := 0
	if v6 {
		i = 1
	}
	port := svc.Ports[0]
	switch to {
	case toNodePort:
		return netip.AddrPortFrom(w.Node.Addr(v6), port.NodePort)
	case toExternalIP:
		return netip.AddrPortFrom(svc.ExternalIPs[i], port.Port)
	case toLoadBalancer:
		return netip.AddrPortFrom(svc.LoadBalancerIPs[i], port.Port)
	}
	return netip.AddrPortFrom(svc.ClusterIPs[i], port.Port)
}
