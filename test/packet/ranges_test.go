//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// The ranges that Services of these tests allow.
var (
	podsHere   = []netip.Prefix{lab.Pods[0], lab.Pods[1]}
	podsFar    = []netip.Prefix{lab.RemotePods[0], lab.RemotePods[1]}
	nodes      = []netip.Prefix{lab.LAN[0], lab.LAN[1]}
	theOutside = []netip.Prefix{lab.Outside[0], lab.Outside[1]}
)

// Whom a load balancer's source ranges allow is answered there, and nobody else; at every other frontend all are, and so
// they are at another Service's port of the same load balancer.
func TestSourceRanges(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			want := map[question]string{}
			for i, tt := range []struct {
				ranges  []netip.Prefix
				allowed [2][]source // IPv4, IPv6
			}{
				{podsHere, both(fromPod, fromEndpoint)},
				{podsFar, both(fromFarPod)},
				{nodes, both(fromNode)},
				{theOutside, both(fromOutside)},
				{append(podsHere[:2:2], theOutside...), both(fromPod, fromEndpoint, fromOutside)},
				{theOutside[:1], [2][]source{{fromOutside}, sources}}, // a family without any serves all
				{nodes[1:], [2][]source{sources, {fromNode}}},
			} {
				for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
					svc := w.ranged(p, 2*i, proto, tt.ranges)
					w.rangedTruth(want, svc, tt.allowed)
					next := w.ranged(p, 2*i+1, proto, nil)
					next.LoadBalancerIPs, next.Ports[0].Port = svc.LoadBalancerIPs, 81
					p.set(next, w.slices(next.Name, proto, []endpoint{ready("pod1", true), ready("pod2", true)})...)
					w.rangedTruth(want, next, both(sources...))
				}
			}
			p.settle()
			t.Logf("%d questions, %d explained", w.expect(t, want), w.explained(t, p, want))
		})
	}
}

func both(s ...source) [2][]source { return [2][]source{s, s} }

// ranged sets the n-th Service, with ranges and endpoints on this node.
func (w *world) ranged(p *proxy, n int, proto inet.Protocol, ranges []netip.Prefix) plan.Service {
	if proto == inet.UDP {
		n += 50
	}
	svc := service(n, proto)
	svc.SourceRanges = ranges
	p.set(svc, w.slices(svc.Name, proto, []endpoint{ready("pod1", true), ready("pod2", true)})...)
	return svc
}

// rangedTruth adds what must come of every question to a Service whose load balancer these sources may use.
func (w *world) rangedTruth(want map[question]string, svc plan.Service, allowed [2][]source) {
	for family, v6 := range []bool{false, true} {
		for _, to := range frontends {
			for _, from := range sources {
				want[question{from, svc.Ports[0].Proto, w.address(svc, to, v6)}] = "answered"
			}
		}
		for _, from := range sources {
			want[question{from, svc.Ports[0].Proto, w.address(svc, toLoadBalancer, v6)}] = "silence"
		}
		for _, from := range allowed[family] {
			want[question{from, svc.Ports[0].Proto, w.address(svc, toLoadBalancer, v6)}] = "answered"
		}
	}
}

// While ranges change, endpoints come and go, the Service is made anew and the proxy starts again, nobody gets an answer
// whom no range list ever allowed; and whom all of them allowed does again as soon as the Service stands.
func TestRangesAreNeverOpen(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			svcs := []plan.Service{w.ranged(p, 1, inet.TCP, podsHere), w.ranged(p, 2, inet.UDP, podsHere)}
			var forbidden, allowed []question
			for _, svc := range svcs {
				for _, v6 := range []bool{false, true} {
					at := w.address(svc, toLoadBalancer, v6)
					forbidden = append(forbidden, question{fromOutside, svc.Ports[0].Proto, at}, question{fromNode, svc.Ports[0].Proto, at})
					allowed = append(allowed, question{fromPod, svc.Ports[0].Proto, at})
				}
			}
			p.settle()
			outside := w.probe(10*time.Millisecond, forbidden...)
			begin := time.Now()
			const changes = 200
			for i := range changes {
				for j := range svcs {
					w.change(p, &svcs[j], i)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := outside.end()["answered"]; n > 0 {
				t.Errorf("%d answers to sources that no range list ever allowed, the first to %s", n, outside.first["answered"])
			}
			t.Logf("%d changes in %v; forbidden sources: %v", changes, time.Since(begin).Round(time.Millisecond), outside)
			p.settle()
			for _, q := range allowed {
				if a := w.ask(q, 5*time.Second); a.Err != nil {
					t.Errorf("at the end, %v: %v, want an answer", q, a)
				}
			}
		})
	}
}

// change makes the i-th change to a Service: of its ranges always, and now and then of all else.
func (w *world) change(p *proxy, svc *plan.Service, i int) {
	svc.SourceRanges = append([]netip.Prefix{}, podsHere...)
	for j := range i % 5 {
		svc.SourceRanges = append(svc.SourceRanges, netip.MustParsePrefix(fmt.Sprintf("172.16.%d.0/24", j)), netip.MustParsePrefix(fmt.Sprintf("fd00:172:%d::/64", j)))
	}
	if i%2 == 0 {
		svc.SourceRanges = append(podsFar[:2:2], svc.SourceRanges...)
	}
	svc.ExternalLocal = i%7 > 3
	endpoints := []endpoint{ready("pod1", true), ready("pod2", true)}
	if i%3 == 0 {
		endpoints = []endpoint{ready("pod1", true), ready("far1", false)}
	}
	switch {
	case i%20 == 19:
		p.remove(svc.Name)
		p.settle()
	case i%20 == 9:
		p.halt()
		p.run()
		p.queue.Synced()
	}
	p.set(*svc, w.slices(svc.Name, svc.Ports[0].Proto, endpoints)...)
}

// A frontend's virtual server is there before the frontend is on, and after it is off. IPVS finds it by the address alone in whatever
// the node sends, and in what anybody sends to an address of the node. Source ranges hold then, too.
func TestRangesHoldWhileAFrontendIsOff(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			p.halt()
			between := &interlude{Kernel: p.cfg.IPVS, look: func(when string, forbidden []question) {
				want := map[question]string{}
				for _, q := range forbidden {
					want[q] = "silence"
				}
				if w.expect(t, want); t.Failed() {
					t.Logf("these were asked %s", when)
				}
			}}
			var svcs []plan.Service
			for n, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
				elsewhere, here := service(2*n, proto), service(2*n+1, proto)
				here.LoadBalancerIPs = []netip.Addr{w.Node.Addr(false), w.Node.Addr(true)}
				svcs = append(svcs, elsewhere, here)
			}
			for i := range svcs {
				svc := &svcs[i]
				svc.SourceRanges = podsHere
				for _, v6 := range []bool{false, true} {
					proto, at := svc.Ports[0].Proto, w.address(*svc, toLoadBalancer, v6)
					between.forbid(question{fromNode, proto, at})
					if at.Addr() == w.Node.Addr(v6) {
						between.forbid(question{fromOutside, proto, at})
					}
				}
			}
			p.cfg.IPVS = between
			p.run()
			p.queue.Synced()
			for _, svc := range svcs {
				p.set(svc, w.slices(svc.Name, svc.Ports[0].Proto, []endpoint{ready("pod1", true)})...)
			}
			p.settle()
			for _, svc := range svcs {
				for _, v6 := range []bool{false, true} {
					w.expectWho(t, question{fromPod, svc.Ports[0].Proto, w.address(svc, toLoadBalancer, v6)}, "pod1")
				}
			}
			for _, svc := range svcs {
				p.remove(svc.Name)
			}
			p.settle()
			p.halt()
			if want := 2 * between.questions(); between.asked != want {
				t.Errorf("%d questions, want %d", between.asked, want)
			}
			p.run()
		})
	}
}

// An interlude is an IPVS table that lets a test look once a virtual server has a real server, and before it goes.
type interlude struct {
	ipvs.Kernel
	forbidden map[ipvs.Key][]question
	look      func(when string, forbidden []question)
	asked     int
}

func (in *interlude) forbid(q question) {
	if in.forbidden == nil {
		in.forbidden = map[ipvs.Key][]question{}
	}
	k := ipvs.AddrKey(q.proto, q.at)
	in.forbidden[k] = append(in.forbidden[k], q)
}

func (in *interlude) questions() int {
	n := 0
	for _, qs := range in.forbidden {
		n += len(qs)
	}
	return n
}

// Do implements ipvs.Kernel.
func (in *interlude) Do(ctx context.Context, ops []ipvs.Op) []error {
	in.ask(ops, ipvs.DelServer, "before the virtual server goes")
	errs := in.Kernel.Do(ctx, ops)
	in.ask(ops, ipvs.AddReal, "once the virtual server is made")
	return errs
}

func (in *interlude) ask(ops []ipvs.Op, verb ipvs.Verb, when string) {
	var all []question
	for _, op := range ops {
		if op.Verb == verb {
			all = append(all, in.forbidden[op.Key]...)
		}
	}
	if len(all) > 0 {
		in.asked += len(all)
		in.look(when, all)
	}
}
