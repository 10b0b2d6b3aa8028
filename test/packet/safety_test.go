//go:build kernel

package packet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// hostPort is where a program of the node listens, on all addresses, with which no Service has to do.
const hostPort = 2222

// What listens on all addresses of the node is reached at no address of a Service, from the moment before the first
// Service is programmed, while it comes and goes, until after the last; and the address is refused where it is ours.
func TestHostPortsStayTheHosts(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, lab.Config{})
			tcp, udp := w.serveOn(t, w.Node, inet.TCP, hostPort, "host"), w.serveOn(t, w.Node, inet.UDP, hostPort, "host")
			var ours, all []question
			svcs := []plan.Service{service(1, inet.TCP), service(2, inet.UDP)}
			for _, svc := range svcs {
				for _, from := range []source{fromPod, fromNode, fromOutside, fromFarPod} {
					for _, to := range []frontend{toClusterIP, toExternalIP, toLoadBalancer} {
						for _, v6 := range []bool{false, true} {
							q := question{from, svc.Ports[0].Proto, netip.AddrPortFrom(w.address(svc, to, v6).Addr(), hostPort)}
							all = append(all, q)
							if to == toClusterIP || mode == "bind" {
								ours = append(ours, q)
							}
						}
					}
				}
			}
			everybody := w.probe(10*time.Millisecond, all...)
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			for range 10 {
				for _, svc := range svcs {
					p.set(svc, w.slices(svc.Name, svc.Ports[0].Proto, []endpoint{ready("pod1", true)})...)
				}
				p.settle()
				for _, svc := range svcs {
					p.remove(svc.Name)
				}
				p.settle()
			}
			for _, svc := range svcs {
				p.set(svc, w.slices(svc.Name, svc.Ports[0].Proto, []endpoint{ready("pod1", true)})...)
			}
			p.settle()
			everybody.end()
			if n := tcp.Accepted() + udp.Accepted(); n > 0 {
				t.Errorf("the host's program was reached %d times, first by %s", n, everybody.first["answered"])
			}
			t.Logf("Services came and went: %v", everybody)
			want := map[question]string{}
			for _, q := range ours {
				want[q] = "refused"
			}
			begin := time.Now()
			n := w.expect(t, want)
			t.Logf("%d refused in %v", n, time.Since(begin).Round(time.Millisecond))
		})
	}
}

// An external IP that is the node's own address, or a neighbour's, takes the Service's port and no other.
func TestExternalIPsOfNodes(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, lab.Config{})
			for _, host := range []*lab.Host{w.Node, w.Node2} {
				for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
					w.serveOn(t, host, proto, hostPort, host.String())
				}
			}
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			hosts := []*lab.Host{w.Node}
			if mode == "divert" {
				hosts = append(hosts, w.Node2) // bind mode takes the whole address: that is what binding is
			}
			for i, host := range hosts {
				for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
					svc := service(2*i+int(proto)%2, proto)
					svc.ExternalIPs = []netip.Addr{host.Addr(false), host.Addr(true)}
					p.set(svc, w.slices(svc.Name, proto, []endpoint{ready("pod1", true)})...)
				}
			}
			p.settle()
			for _, host := range hosts {
				for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
					for _, v6 := range []bool{false, true} {
						for _, from := range []source{fromPod, fromEndpoint, fromNode, fromOutside} {
							w.expectWho(t, question{from, proto, netip.AddrPortFrom(host.Addr(v6), hostPort)}, host.String())
							if from != fromOutside || host == w.Node { // from outside, packets to node2 do not come by here
								w.expectWho(t, question{from, proto, netip.AddrPortFrom(host.Addr(v6), 80)}, "pod1")
							}
						}
					}
				}
			}
		})
	}
}

// A connection from an address and port that a Service wants, of another node or of a client of other Services, gets its answers, whether it
// began before the Service came or after: no answer is taken for a question. Of the node's own answers IPVS takes those of UDP and the first
// of TCP for one, wherever they are routed (ip_vs_local_request4 in net/netfilter/ipvs/ip_vs_core.c).
func TestAnswersToClaimedPorts(t *testing.T) {
	const first, many = 40000, 32
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	w.serveOn(t, w.Node, inet.TCP, hostPort, "host")
	claim := service(1, inet.TCP)
	claim.ExternalIPs, claim.LoadBalancerIPs, claim.Ports = nil, nil, nil
	for _, host := range []*lab.Host{w.Node2, w.Client} {
		claim.ExternalIPs = append(claim.ExternalIPs, host.Addr(false), host.Addr(true))
	}
	local := map[inet.Protocol]plan.Service{inet.TCP: service(2, inet.TCP), inet.UDP: service(3, inet.UDP)}
	for proto, svc := range local {
		svc.ExternalLocal = true
		p.set(svc, w.slices(svc.Name, proto, []endpoint{ready("pod1", true)})...)
		for i := range many {
			claim.Ports = append(claim.Ports, plan.Port{Name: proto.String(), Proto: proto, Port: uint16(first + i)})
		}
	}
	p.settle()
	port, talks := uint16(first), map[string]*lab.Conn{}
	talk := func(when string, from *lab.Host, proto inet.Protocol, who string, at netip.AddrPort) {
		c, err := w.Dial(t.Context(), from, proto, at, lab.From(netip.AddrPortFrom(from.Addr(at.Addr().Is6()), port)), lab.Wait(3*time.Second))
		if port++; err != nil {
			t.Errorf("%s, %v to %s at %v/%v: %v", when, from, who, at, proto, err)
			return
		}
		t.Cleanup(func() { c.Close() })
		talks[fmt.Sprintf("%s: begun %s, from %v to %v/%v", who, when, from, at, proto)] = c
	}
	begin := func(when string) {
		for _, v6 := range []bool{false, true} {
			for proto, svc := range local {
				talk(when, w.Node2, proto, "pod1", netip.AddrPortFrom(w.Pod("pod1").Addr(v6), podPort))
				talk(when, w.Client, proto, "pod1", w.address(svc, toExternalIP, v6))
			}
			if when == "before" {
				talk(when, w.Node2, inet.TCP, "host", netip.AddrPortFrom(w.Node.Addr(v6), hostPort))
			}
		}
	}
	ask := func() {
		for name, c := range talks {
			if a := c.Ask(t.Context()); a.Err != nil || !strings.HasPrefix(name, a.Who+":") {
				t.Errorf("%s: %v", name, a)
			}
		}
	}
	begin("before")
	ask()
	slices := append(w.slices(claim.Name, inet.TCP, []endpoint{ready("pod2", true)}), w.slices(claim.Name, inet.UDP, []endpoint{ready("pod2", true)})...)
	for i := range slices {
		slices[i].Ports[0].Name = slices[i].Ports[0].Proto.String()
	}
	p.set(claim, slices...)
	p.settle()
	begin("after")
	ask()
}

func (w *world) expectWho(t *testing.T, q question, who string) {
	t.Helper()
	if a := w.ask(q, 5*time.Second); a.Who != who {
		t.Errorf("%v: %v, want %s", q, a, who)
	}
}

// A cluster IP that no Service has is refused at once. Where the range of cluster IPs is not known, it is an address like
// any other to the node, which sends it to its gateway.
func TestUnallocatedClusterIPs(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, unknown := range []bool{false, true} {
		t.Run(fmt.Sprintf("range unknown=%v", unknown), func(t *testing.T) {
			p := start(t, setup{detector: clusterCIDR, unknownCIDRs: unknown})
			svc := w.plain(p, 1)
			want := map[question]string{}
			for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
				for _, v6 := range []bool{false, true} {
					for _, from := range []source{fromPod, fromNode, fromOutside} {
						want[question{from, inet.TCP, w.address(svc, toClusterIP, v6)}] = "answered"
						q := question{from, proto, netip.AddrPortFrom(nth(lab.Services[0], v6, 5000), 80)}
						begin := time.Now()
						a := w.ask(q, time.Second)
						if took := time.Since(begin); a.Err == nil || !unknown && (fate(a) != "refused" || took > 500*time.Millisecond) {
							t.Errorf("%v: %v after %v, want a refusal", q, a, took)
						}
					}
				}
			}
			w.expect(t, want)
		})
	}
}

// A Service whose port has the number of another's node port keeps its own policy: the client's address stays.
func TestPortNumberOfAnothersNodePort(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			a, b := service(1, inet.TCP), service(2, inet.TCP)
			a.Ports[0].Port, a.ExternalLocal = 31000, true
			b.Ports[0].NodePort = 31000
			p.set(a, w.slices(a.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
			p.set(b, w.slices(b.Name, inet.TCP, []endpoint{ready("pod2", true)})...)
			p.settle()
			for _, v6 := range []bool{false, true} {
				for _, q := range []question{
					{fromPod, inet.TCP, w.address(a, toClusterIP, v6)},
					{fromPod, inet.TCP, w.address(a, toExternalIP, v6)},
					{fromOutside, inet.TCP, w.address(a, toLoadBalancer, v6)},
				} {
					got := w.ask(q, 5*time.Second)
					if got.Who != "pod1" || got.Source.Addr() != w.host(q.from).Addr(v6) {
						t.Errorf("%v: %v, want pod1 and the client's own address", q, got)
					}
				}
				w.expectWho(t, question{fromOutside, inet.TCP, w.address(b, toNodePort, v6)}, "pod2")
			}
		})
	}
}

// A client whose address is a load balancer's, as a balancer's own probes have, is answered at node ports.
func TestClientWithTheLoadBalancersAddress(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	for n, local := range []bool{false, true} {
		svc := service(n, inet.TCP)
		svc.ExternalLocal = local
		p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
		p.settle()
		for i, v6 := range []bool{false, true} {
			vip := svc.LoadBalancerIPs[i]
			w.moveToClient(t, vip)
			from := lab.From(netip.AddrPortFrom(vip, 0))
			a := w.Ask(context.Background(), w.Client, inet.TCP, w.address(svc, toNodePort, v6), from, lab.Wait(5*time.Second))
			if a.Who != "pod1" || local && a.Source.Addr() != vip {
				t.Errorf("external policy %s: from %v: %v, want pod1's answer", policyName(local), vip, a)
			}
		}
	}
}

// moveToClient gives the client outside a service address, and the router the way there.
func (w *world) moveToClient(t *testing.T, addr netip.Addr) {
	t.Helper()
	full := netip.PrefixFrom(addr, addr.BitLen())
	err := w.Client.Do(func() error {
		link, err := netlink.LinkByName("lo")
		return errors.Join(err, netlink.AddrAdd(link, addressOf(t, full)))
	})
	err = errors.Join(err, w.Router.Do(func() error {
		to, err := netlink.ParseIPNet(full.String())
		return errors.Join(err, netlink.RouteAdd(&netlink.Route{Dst: to, Gw: w.Client.Addr(addr.Is6()).AsSlice()}))
	}))
	if err != nil {
		t.Fatal(err)
	}
}

// A node that has no default route reaches external addresses all the same.
func TestNoDefaultRoute(t *testing.T) {
	w := newWorld(t, lab.Config{NoDefaultRoute: true})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			svc := service(1, inet.TCP)
			p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true), ready("far1", false)})...)
			p.settle()
			want := map[question]string{}
			for _, from := range []source{fromPod, fromEndpoint, fromNode} {
				for _, to := range frontends {
					for _, v6 := range []bool{false, true} {
						want[question{from, inet.TCP, w.address(svc, to, v6)}] = "answered"
					}
				}
			}
			t.Logf("%d questions", w.expect(t, want))
		})
	}
}

// No host answers for a load balancer's address in the LAN on the proxy's account: that is its announcer's task.
func TestNobodyAnnounces(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	svc := service(1, inet.TCP)
	svc.LoadBalancerIPs = []netip.Addr{nth(lab.LAN, false, 200), nth(lab.LAN, true, 200)}
	p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
	p.settle()
	for _, v6 := range []bool{false, true} {
		w.expectWho(t, question{fromPod, inet.TCP, w.address(svc, toLoadBalancer, v6)}, "pod1")
		w.expectWho(t, question{fromNode, inet.TCP, w.address(svc, toLoadBalancer, v6)}, "pod1")
		if a := w.Ask(context.Background(), w.Router, inet.TCP, w.address(svc, toLoadBalancer, v6), lab.Wait(4*time.Second)); fate(a) != "refused" {
			t.Errorf("from the LAN: %v, want that nobody knows the address", a)
		}
	}
}
