//go:build kernel

package packet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs"
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
	moves   bool                // the node gets other addresses
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
	for _, proto := range []ipvs.Protocol{ipvs.TCP, ipvs.UDP} {
		tr.keep(tr.add(&n, proto, rule{endpoints: both}, nil), nil)
		tr.keep(tr.add(&n, proto, rule{endpoints: here}, nil), func(c cell) bool { return c.from == fromFarPod && c.to == toClusterIP })
		basic := len(tr.asked)
		tr.keep(tr.add(&n, proto, rule{endpoints: both, externalLocal: true}, nil), func(c cell) bool { return c.to != toClusterIP })
		tr.keep(tr.add(&n, proto, rule{}, nil), func(c cell) bool { return c.from != fromEndpoint && c.from != fromFarPod })
		tr.askOwnEndpoint(&n, proto)
		tr.askNodesAddresses(&n, proto)
		tr.askNobodys(proto)
		if proto == ipvs.UDP {
			tr.more = slices.Clone(tr.asked[basic:])
			tr.asked = tr.asked[:basic]
		}
	}
	tr.askNeighbours()
	p.settle()
	return tr
}

// add sets the next Service and returns the cells of its truth.
func (tr *trial) add(n *int, proto ipvs.Protocol, r rule, edit func(*plan.Service)) []cell {
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
func (tr *trial) expectFrom(to frontend, proto ipvs.Protocol, at netip.AddrPort, want outcome, sources ...source) {
	for _, from := range sources {
		tr.asked = append(tr.asked, newCell(from, to, proto, at, want))
	}
}

func newCell(from source, to frontend, proto ipvs.Protocol, at netip.AddrPort, want outcome) cell {
	return cell{name: fmt.Sprint(at), from: from, to: to, at: at, proto: proto, want: want}
}

// askOwnEndpoint has a Service whose endpoints are two addresses of the node, as those of the API server are.
func (tr *trial) askOwnEndpoint(n *int, proto ipvs.Protocol) {
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
func (tr *trial) askNodesAddresses(n *int, proto ipvs.Protocol) {
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
func (tr *trial) askNobodys(proto ipvs.Protocol) {
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
	svc := service(90, ipvs.TCP)
	svc.LoadBalancerIPs = vips
	tr.p.set(svc, tr.w.slices(svc.Name, ipvs.TCP, situations[0].endpoints)...)
	for _, vip := range vips {
		tr.expectFrom(toNeighbour, ipvs.UDP, netip.AddrPortFrom(vip, 80), outcome{fate: unanswered}, fromOutside)
	}
}

// in asks all cells in a circumstance, and says what is wrong.
func (tr *trial) in(c circumstance) {
	tr.t.Run(c.name, func(t *testing.T) {
		forget(t)
		tr.w.t = t
		begin := time.Now()
		for i, change := range c.changes {
			if err := change.do(tr.w); err != nil {
				t.Error(err)
			}
			defer func() {
				if err := c.changes[i].undo(tr.w); err != nil {
					t.Error(err)
				}
			}()
		}
		if c.moves {
			tr.p.settle()
		}
		tr.own = tr.p.nodeAddresses()
		done := time.Now()
		tr.right, tr.wrong = tally{}, nil
		cells := tr.asked
		if c.all {
			cells = slices.Concat(cells, tr.more)
		}
		if c.more != nil {
			cells = slices.Concat(cells, c.more(tr))
		}
		late := tr.askAgain(c, tr.askAll(c, cells, most))
		right := len(cells) - len(tr.wrong)
		if tr.forgive != nil {
			tr.forgive()
		}
		tr.mind(t, c, cells)
		tr.lines = append(tr.lines, fmt.Sprintf("%4d asked, %4d right (%d at the second attempt), set up in %v, asked in %v: %s",
			len(cells), right, late, done.Sub(begin).Round(time.Millisecond), time.Since(done).Round(time.Millisecond), c.name))
		tr.report(t)
	})
}

// mind takes the cells that a limit covers out of the wrong ones, and complains of those that were right.
func (tr *trial) mind(t *testing.T, c circumstance, cells []cell) {
	for _, l := range c.limits {
		if !slices.Contains(l.of, tr.subject) {
			continue
		}
		wrong := len(tr.wrong)
		covered := 0
		for _, cell := range cells {
			if l.covers(cell) {
				covered++
			}
		}
		tr.wrong = slices.DeleteFunc(tr.wrong, func(w wrongCell) bool { return l.covers(w.cell) })
		if n := wrong - len(tr.wrong); n < covered || covered == 0 {
			t.Errorf("limit %q: %d of its %d cells are right", l.reason, covered-n, covered)
		}
	}
}

// askAll asks cells, some at a time, and returns those that silence came of.
func (tr *trial) askAll(c circumstance, cells []cell, atATime int) (silent []cell) {
	work := make(chan cell)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for cell := range work {
				answer, complaint := tr.converse(c, cell)
				tr.mu.Lock()
				switch {
				case complaint == "":
					tr.right[cell.column()]++
				default:
					tr.wrong = append(tr.wrong, wrongCell{cell, answer, complaint})
					if fate(answer) == "silence" {
						silent = append(silent, cell)
					}
				}
				tr.mu.Unlock()
			}
		})
	}
	for _, cell := range cells {
		work <- cell
	}
	close(work)
	wg.Wait()
	return silent
}

// askAgain asks those once more that silence came of, fewer at a time: the machine may have been busy. It returns how many
// were right then.
func (tr *trial) askAgain(c circumstance, silent []cell) int {
	tr.wrong = slices.DeleteFunc(tr.wrong, func(w wrongCell) bool { return fate(w.answer) == "silence" })
	wrong := len(tr.wrong)
	tr.askAll(c, silent, mostAgain)
	return len(silent) - (len(tr.wrong) - wrong)
}

// converse asks a cell over connections of its own, until all have answered who may, with several requests over each. It
// returns the last answer, and what is wrong, or "".
func (tr *trial) converse(c circumstance, cell cell) (last lab.Answer, complaint string) {
	want := c.expects(cell)
	if cell.to == toNeighbour {
		return tr.askNeighbour(cell)
	}
	seen := map[string]bool{}
	for n := 0; n < max(1, 2*len(want.who)) || n < 10*len(want.who) && len(seen) < len(want.who); n++ {
		if n > 1 && n >= 2*len(want.who) {
			time.Sleep(rand.N(time.Duration(n) * 5 * time.Millisecond)) // others who ask at the same pace may get the other endpoints each time
		}
		if last, complaint = tr.connection(c, cell, want); complaint != "" {
			return last, complaint
		}
		seen[last.Who] = true
	}
	for _, e := range want.who {
		if !seen[e.pod] {
			return last, fmt.Sprintf("%s never answered", e.pod)
		}
	}
	return last, ""
}

// expects is what comes of a cell in the circumstance.
func (c circumstance) expects(cell cell) outcome {
	if c.closed != nil && c.closed(cell) {
		return outcome{fate: unanswered}
	}
	return cell.want
}

// connection asks over one connection.
func (tr *trial) connection(c circumstance, cell cell, want outcome) (last lab.Answer, complaint string) {
	wait := shortly
	if want.fate == unanswered {
		wait = atOnce
	}
	ctx := context.Background()
	conn, err := tr.w.Dial(ctx, tr.w.host(cell.from), cell.proto, cell.at, lab.Wait(wait), ownPort())
	if err != nil {
		last = lab.Answer{Err: err}
		return last, tr.complainIn(c, cell, want, last)
	}
	defer conn.Close()
	for n := range exchanges {
		before := last
		last = conn.Ask(ctx)
		if complaint = tr.complainIn(c, cell, want, last); complaint != "" {
			return last, fmt.Sprintf("request %d: %s", n+1, complaint)
		}
		switch {
		case last.Err != nil:
			return last, ""
		case n > 0 && last != before:
			return last, fmt.Sprintf("request %d: %v, and %v before", n+1, last, before)
		}
	}
	return last, ""
}

// complainIn says what is wrong with an answer in the circumstance, or "".
func (tr *trial) complainIn(c circumstance, cell cell, want outcome, a lab.Answer) string {
	if want.fate == unanswered {
		if a.Err == nil {
			return fmt.Sprintf("%s answered, want %s", a.Who, unanswered)
		}
		return ""
	}
	if a.Err == nil && slices.ContainsFunc(want.who, func(e endpoint) bool { return e.pod == a.Who }) {
		nobodys := cell.to == toHostPort || cell.to == toPod || cell.to == toNode2
		if a.Who == "node1" || c.marked && nobodys {
			return ""
		}
	}
	cell.want = want
	return tr.complain(cell, a)
}

// askNeighbour sends a datagram from the router, and looks whether somebody told it where to.
func (tr *trial) askNeighbour(cell cell) (a lab.Answer, complaint string) {
	a = tr.w.Ask(context.Background(), tr.w.Router, cell.proto, cell.at, lab.Wait(atOnce))
	family := unix.AF_INET
	if cell.at.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := tr.w.Router.Do(func() error {
		neighbours, err := netlink.NeighList(0, family)
		for _, n := range neighbours {
			if at, _ := netip.AddrFromSlice(n.IP); at.Unmap() == cell.at.Addr() && len(n.HardwareAddr) > 0 {
				return errors.Join(err, fmt.Errorf("%v has %v", n.HardwareAddr, at))
			}
		}
		return err
	})
	if err != nil {
		return a, err.Error()
	}
	return a, ""
}

// forget makes the kernel forget all connections, which another proxy or circumstance must not be held to.
func forget(t *testing.T) {
	t.Helper()
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
}

// inAll runs circumstances, after and before none of them, and prints the table.
func (tr *trial) inAll(circumstances []circumstance) {
	defer func() { tr.t.Logf("%s\n%s", tr.subject, strings.Join(tr.lines, "\n")) }()
	tr.in(circumstance{name: "control", all: true})
	for _, c := range circumstances {
		tr.in(c)
	}
	tr.in(circumstance{name: "control, at the end", all: true})
}

// startIn starts a proxy in a circumstance, and asks.
func startIn(t *testing.T, c circumstance, name string, begin func(*testing.T, *world) subject) {
	t.Run(c.name, func(t *testing.T) {
		w := newWorld(t, lab.Config{Forward: true, NotCounting: true})
		for _, change := range c.changes {
			if err := change.do(w); err != nil {
				t.Error(err)
			}
			t.Cleanup(func() {
				if err := change.undo(w); err != nil {
					t.Error(err)
				}
			})
		}
		c.changes = nil
		tr := newTrial(t, w, begin(t, w), name, cmp.Or(c.uplink, "eth0"))
		tr.in(c)
		t.Log(strings.Join(tr.lines, "\n"))
	})
}
