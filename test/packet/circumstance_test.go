//go:build kernel

package packet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A circumstance is something that others have on a node beside the proxy: rules, routes, settings, links. It changes nothing
// about the truth, but for what belongs to no Service.
type circumstance struct {
	name    string
	changes []change
	closed  func(cell) bool     // what a firewall keeps closed that is no Service's
	marked  bool                // who sees whom where no Service is concerned is somebody else's affair
	all     bool                // ask with UDP, too, what else is asked with TCP only
	more    func(*trial) []cell // asked in this circumstance only
	moves   bool                // the node gets other addresses, or rules that the proxy's are to come before
	uplink  string              // if not eth0
	limits  []limit
}

// A limit is a set of cells that are wrong in a circumstance, by the nature of a proxy, with the reason. One that turns out
// right is a failure, so that the list stays true.
type limit struct {
	reason string
	of     []string // subjects
	covers func(cell) bool
}

// Kinds of cells beside those of the truth table.
const (
	toHostPort      frontend = "host port"           // a port of the node with which no Service has to do
	toPod           frontend = "pod"                 // a pod's own address
	toServiceHost   frontend = "host port's number"  // at a service address, where it must not answer
	toNode2         frontend = "another node's port" // whose address is a load balancer's
	toNeighbour     frontend = "link-layer address"  // of an external address: nobody is to tell it
	toLoadOfNode    frontend = "load balancer, the node's own address"
	toLoadOfNode2   frontend = "load balancer, another node's address"
	unanswered               = "no answer" // of any kind
	apiPort         uint16   = 6443        // where a program of the node serves that is a Service's endpoint
	exchanges                = 3           // requests over a connection, or from a port
	shortly                  = 900 * time.Millisecond
	atOnce                   = 300 * time.Millisecond
	most, mostAgain          = 48, 12 // cells asked at a time; again if there was no answer
)

// A trial is a proxy that is asked the same cells in one circumstance after the other.
type trial struct {
	*truthTable
	t       *testing.T
	subject string
	whole   bool // the proxy takes service addresses as a whole
	asked   []cell
	more    []cell   // with UDP, that only some circumstances ask
	forgive func()   // takes wrong cells out whose reason is known, in every circumstance
	counted bool     // wrong cells are counted, and no errors: kube-proxy's ipvs mode is there to be compared with
	lines   []string // the table at the end, a line a circumstance
}

// newTrial sets the Services of a trial, and waits for them. The subject's name is what limits are by.
func newTrial(t *testing.T, w *world, p subject, subject, uplink string) *trial {
	tr := &trial{truthTable: newTable(w, p, rule{inside: byCIDR}), t: t, subject: subject, whole: subject == "bind" || subject == "ipvs"}
	for _, a := range second {
		addAddress(t, uplink, a)
		t.Cleanup(func() { delAddress(t, uplink, a) })
	}
	both, here := situations[0].endpoints, situations[1].endpoints
	n := 0
	for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
		tr.keep(tr.add(&n, proto, rule{endpoints: both}, nil), nil)
		tr.keep(tr.add(&n, proto, rule{endpoints: here}, nil), func(c cell) bool { return c.from == fromFarPod && c.to == toClusterIP })
		basic := len(tr.asked)
		tr.keep(tr.add(&n, proto, rule{endpoints: both, externalLocal: true}, nil), func(c cell) bool { return c.to != toClusterIP })
		tr.keep(tr.add(&n, proto, rule{}, nil), func(c cell) bool { return c.from != fromEndpoint && c.from != fromFarPod })
		tr.askOwnEndpoint(&n, proto)
		tr.askNodesAddresses(&n, proto)
		tr.askNobodys(proto)
		if proto == inet.UDP {
			tr.more = slices.Clone(tr.asked[basic:])
			tr.asked = tr.asked[:basic]
		}
	}
	tr.askNeighbours()
	p.settle()
	return tr
}

// add sets the next Service and returns the cells of its truth.
func (tr *trial) add(n *int, proto inet.Protocol, r rule, edit func(*plan.Service)) []cell {
	svc := service(*n, proto)
	*n++
	r.inside, svc.ExternalLocal = byCIDR, r.externalLocal
	if edit != nil {
		edit(&svc)
	}
	tr.p.set(svc, tr.w.slices(svc.Name, proto, r.endpoints)...)
	name := fmt.Sprintf("%v, external %s, %d endpoints", proto, policyName(r.externalLocal), len(r.endpoints))
	return slices.Concat(tr.cells(svc, r, name)...)
}

// keep adds cells to the trial, those that fit.
func (tr *trial) keep(cells []cell, fits func(cell) bool) {
	for _, c := range cells {
		if fits == nil || fits(c) {
			tr.asked = append(tr.asked, c)
		}
	}
}

// expectFrom adds a cell for each source.
func (tr *trial) expectFrom(to frontend, proto inet.Protocol, at netip.AddrPort, want outcome, sources ...source) {
	for _, from := range sources {
		tr.asked = append(tr.asked, newCell(from, to, proto, at, want))
	}
}

func newCell(from source, to frontend, proto inet.Protocol, at netip.AddrPort, want outcome) cell {
	return cell{name: fmt.Sprint(at), from: from, to: to, at: at, proto: proto, want: want}
}

// askOwnEndpoint has a Service whose endpoints are two addresses of the node, as those of the API server are.
func (tr *trial) askOwnEndpoint(n *int, proto inet.Protocol) {
	tr.w.serveOn(tr.t, tr.w.Node, proto, apiPort, "node1")
	svc := service(*n, proto)
	*n++
	var in []plan.Slice
	for i, v6 := range []bool{false, true} {
		s := plan.Slice{Service: svc.Name, Ports: []plan.SlicePort{{Name: "p", Proto: proto, Port: apiPort}}}
		for _, a := range []netip.Addr{tr.w.Node.Addr(v6), second[i].Addr()} {
			s.Endpoints = append(s.Endpoints, plan.Endpoint{Addr: a, Node: "node1", Ready: true, Serving: true})
		}
		in = append(in, s)
	}
	tr.p.set(svc, in...)
	// Whom the program sees is not asked: nothing is masqueraded that stays on the node, with any proxy.
	who := outcome{fate: "answered", who: []endpoint{ready("node1", true)}}
	for _, v6 := range []bool{false, true} {
		for _, to := range frontends {
			tr.expectFrom(to, proto, tr.w.address(svc, to, v6), who, fromPod, fromNode, fromOutside)
		}
	}
}

// askNodesAddresses has Services whose load balancers are the node's own addresses, and another node's.
func (tr *trial) askNodesAddresses(n *int, proto inet.Protocol) {
	hosts := []*lab.Host{tr.w.Node}
	if !tr.whole {
		hosts = append(hosts, tr.w.Node2) // who takes all of it cuts the other node off
	}
	for i, host := range hosts {
		r := rule{endpoints: situations[0].endpoints, inside: byCIDR}
		tr.add(n, proto, r, func(svc *plan.Service) { svc.LoadBalancerIPs = []netip.Addr{host.Addr(false), host.Addr(true)} })
		for _, v6 := range []bool{false, true} {
			at, to := netip.AddrPortFrom(host.Addr(v6), 80), []frontend{toLoadOfNode, toLoadOfNode2}[i]
			tr.expectFrom(to, proto, at, r.truth(fromPod, toLoadBalancer), fromPod, fromEndpoint, fromNode)
			if host == tr.w.Node { // others' packets to node2 do not come by here
				tr.expectFrom(to, proto, at, r.truth(fromOutside, toLoadBalancer), fromFarPod, fromOutside)
			}
		}
	}
	if !tr.whole {
		tr.w.serveOn(tr.t, tr.w.Node2, proto, hostPort, "node2")
		for _, v6 := range []bool{false, true} {
			tr.expectFrom(toNode2, proto, netip.AddrPortFrom(tr.w.Node2.Addr(v6), hostPort), outcome{fate: "answered", who: []endpoint{ready("node2", false)}},
				fromPod, fromNode)
		}
	}
}

// askNobodys asks for what is no Service's: the node's own port, which answers at no service address, and pods themselves.
func (tr *trial) askNobodys(proto inet.Protocol) {
	tr.w.serveOn(tr.t, tr.w.Node, proto, hostPort, "host")
	answers := func(name string, here bool) outcome {
		return outcome{fate: "answered", who: []endpoint{ready(name, here)}}
	}
	for _, v6 := range []bool{false, true} {
		port := netip.AddrPortFrom(tr.w.Node.Addr(v6), hostPort)
		tr.expectFrom(toHostPort, proto, port, answers("host", true), fromPod, fromNode, fromFarPod, fromOutside)
		tr.expectFrom(toPod, proto, netip.AddrPortFrom(tr.w.Pod("pod2").Addr(v6), podPort), answers("pod2", true), fromPod, fromNode, fromOutside)
		tr.expectFrom(toPod, proto, netip.AddrPortFrom(tr.w.Pod("far1").Addr(v6), podPort), answers("far1", false), fromPod, fromNode)
		for _, to := range []frontend{toClusterIP, toExternalIP, toLoadBalancer} {
			at := tr.w.address(service(0, proto), to, v6)
			tr.expectFrom(toServiceHost, proto, netip.AddrPortFrom(at.Addr(), hostPort), outcome{fate: unanswered}, fromPod, fromNode, fromOutside)
		}
	}
}

// askNeighbours asks in the LAN for the link-layer address of a load balancer, which its announcer tells, and no proxy.
func (tr *trial) askNeighbours() {
	if tr.whole {
		return // who binds addresses tells
	}
	vips := []netip.Addr{nth(lab.LAN, false, 200), nth(lab.LAN, true, 200)}
	svc := service(90, inet.TCP)
	svc.LoadBalancerIPs = vips
	tr.p.set(svc, tr.w.slices(svc.Name, inet.TCP, situations[0].endpoints)...)
	for _, vip := range vips {
		tr.expectFrom(toNeighbour, inet.UDP, netip.AddrPortFrom(vip, 80), outcome{fate: unanswered}, fromOutside)
	}
}
