//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A situation is a state that a Service's endpoints can be in.
type situation struct {
	name      string
	endpoints []endpoint
}

var situations = []situation{
	{"here and elsewhere", []endpoint{ready("pod1", true), ready("far1", false)}},
	{"only here", []endpoint{ready("pod1", true), ready("pod2", true)}},
	{"only elsewhere", []endpoint{ready("far1", false)}},
	{"none", nil},
	{"going here, ready elsewhere", []endpoint{going("pod1", true), ready("far1", false)}},
	{"all going", []endpoint{going("pod1", true), going("far1", false)}},
	{"all down", []endpoint{down("pod1", true), down("far1", false)}},
}

var (
	sources   = []source{fromPod, fromEndpoint, fromNode, fromFarPod, fromOutside}
	frontends = []frontend{toClusterIP, toNodePort, toExternalIP, toLoadBalancer}
)

// byCIDR is who is inside if pods are found by their addresses, those of other nodes included.
var byCIDR = map[source]bool{fromPod: true, fromEndpoint: true, fromFarPod: true, fromFarSelf: true}

// TestTruth asks every frontend of Services with every policy, protocol and state of endpoints from every source, and
// holds what comes against the specification.
func TestTruth(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			tt := newTable(w, p, rule{inside: byCIDR})
			tt.sources = append(slices.Clone(sources), fromFarSelf)
			tt.run(t, protocols)
		})
	}
}

// A subject is a proxy that is held to the truth: kube-ipvs, or another.
type subject interface {
	set(plan.Service, ...plan.Slice)
	settle()
	nodeAddresses() []netip.Addr
}

// A truthTable is a set of Services, and what is to come of packets to them.
type truthTable struct {
	w          *world
	p          subject
	base       rule
	situations []situation
	sources    []source
	turns      int                 // at most so many packets for each endpoint of a cell, until all have answered; two are always sent
	exchanges  int                 // so many requests and answers over each connection; none is one
	edit       func(*plan.Service) // of each Service, before it is there; nil: none
	own        []netip.Addr
	mu         sync.Mutex
	right      tally
	wrong      []wrongCell
	explained  predictions // of the subject, if it explains
}

// A cell is one packet of the table, sent a few times.
type cell struct {
	name  string
	from  source
	to    frontend
	at    netip.AddrPort
	proto inet.Protocol
	rule  rule
	want  outcome
}

// external reports whether the cell asks an address that is neither the cluster's nor the node's.
func (c cell) external() bool { return c.to == toExternalIP || c.to == toLoadBalancer }

func newTable(w *world, p subject, base rule) *truthTable {
	return &truthTable{w: w, p: p, base: base, situations: situations, sources: sources, turns: 2, right: tally{}}
}

// run holds the proxy to all of the table.
func (tt *truthTable) run(t *testing.T, protocols []inet.Protocol) {
	tt.fill(t, protocols)
	tt.report(t)
}

// fill sends the table's packets and notes what is right and wrong.
func (tt *truthTable) fill(t *testing.T, protocols []inet.Protocol) {
	begin := time.Now()
	n := 0
	var rows [][]cell // those of one Service take turns, so that each of its virtual servers is seen to use all real servers
	for _, proto := range protocols {
		for _, situation := range tt.situations {
			for policy := range 4 {
				r := tt.base
				r.internalLocal, r.externalLocal, r.endpoints = policy&1 != 0, policy&2 != 0, situation.endpoints
				svc := service(n, proto)
				svc.InternalLocal, svc.ExternalLocal = r.internalLocal, r.externalLocal
				if tt.edit != nil {
					tt.edit(&svc)
				}
				n++
				tt.p.set(svc, tt.w.slices(svc.Name, proto, r.endpoints)...)
				rows = append(rows, tt.cells(svc, r, fmt.Sprintf("%v, %s, internal %s, external %s", proto, situation.name, policyName(r.internalLocal), policyName(r.externalLocal)))...)
			}
		}
	}
	tt.p.settle()
	tt.own = tt.p.nodeAddresses()
	programmed := time.Now()
	tt.ask(rows)
	t.Logf("explain: %v", tt.explained)
	t.Logf("%d Services, %s; programmed in %v, asked in %v", n, tt.totals(),
		programmed.Sub(begin).Round(time.Millisecond), time.Since(programmed).Round(time.Millisecond))
}

func policyName(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}

// cells returns the cells of a Service, a row a family.
func (tt *truthTable) cells(svc plan.Service, r rule, name string) [][]cell {
	var rows [][]cell
	for _, v6 := range []bool{false, true} {
		var row []cell
		for _, to := range frontends {
			for _, from := range tt.sources {
				at, want := tt.w.address(svc, to, v6), r.truth(from, to)
				if r.pastThisNode(from, want) {
					continue
				}
				row = append(row, cell{fmt.Sprintf("%s: %v", name, at), from, to, at, svc.Ports[0].Proto, r, want})
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// pastThisNode says that an endpoint on another node would see the address of a client that is not on this node, and answer
// it without this node, which alone knows whom the client asked. No proxy can make that work; a pod asks its own node's. An endpoint
// that is led back to itself is masqueraded where the policy is external Local: pods ask another node by such an address at most.
func (r rule) pastThisNode(from source, o outcome) bool {
	if from != fromFarPod && from != fromFarSelf && from != fromOutside {
		return false
	}
	return !o.masqueraded && slices.ContainsFunc(o.who, func(e endpoint) bool {
		return !e.here && !(itself(from, e.pod) && r.externalLocal)
	})
}

// itself reports whether a pod that answers is the source.
func itself(from source, pod string) bool {
	return from == fromEndpoint && pod == "pod1" || from == fromFarSelf && pod == "far1"
}

// ask asks the rows, some at a time.
func (tt *truthTable) ask(rows [][]cell) {
	work := make(chan []cell)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for row := range work {
				for _, c := range row {
					tt.judge(c)
				}
			}
		})
	}
	for _, row := range rows {
		work <- row
	}
	close(work)
	wg.Wait()
}

// judge sends a cell's packets: as many as it takes to see every endpoint that may answer.
func (tt *truthTable) judge(c cell) {
	predicted, explains := tt.predict(c)
	last, complaint := tt.put(c, &predicted)
	tt.mu.Lock()
	defer tt.mu.Unlock()
	if explains {
		tt.explained.note(c, predicted, complaint == "")
	}
	if complaint == "" {
		tt.right[c.column()]++
	} else {
		tt.wrong = append(tt.wrong, wrongCell{c, last, complaint})
	}
}

// put sends a cell's packets. It returns the last answer, and what is wrong with it or them all, or "".
func (tt *truthTable) put(c cell, p *prediction) (last lab.Answer, complaint string) {
	how := []lab.Option{lab.Wait(patience(c.want))}
	seen := map[string]bool{}
	least := max(1, 2*len(c.want.who))
	for n := 0; n < least || n < tt.turns*len(c.want.who) && len(seen) < len(c.want.who); n++ {
		how = append(how[:1], lab.OwnPort())
		last = tt.w.converse(c, tt.exchanges, how...)
		p.hold(tt, c, last)
		if complaint = tt.complain(c, last); complaint != "" {
			return last, complaint
		}
		seen[last.Who] = true
	}
	for _, e := range c.want.who {
		if !seen[e.pod] {
			return last, fmt.Sprintf("%s never answered", e.pod)
		}
	}
	return last, ""
}

// converse asks several times over one connection. It returns the last answer, or the first that is an error.
func (w *world) converse(c cell, exchanges int, how ...lab.Option) lab.Answer {
	conn, err := w.Dial(context.Background(), w.host(c.from), c.proto, c.at, how...)
	if err != nil {
		return lab.Answer{Err: err}
	}
	a := conn.Ask(context.Background())
	for n := 1; n < exchanges && a.Err == nil; n++ {
		if a = conn.Ask(context.Background()); a.Err != nil {
			a.Err = fmt.Errorf("%w (after %d exchanges)", a.Err, n)
		}
	}
	if err := conn.Close(); err != nil && a.Err == nil {
		a.Err = err
	}
	return a
}

// complain says what is wrong with an answer, or "".
func (tt *truthTable) complain(c cell, a lab.Answer) string {
	if got := fate(a); got != c.want.fate {
		return fmt.Sprintf("%s, want %s", strings.TrimSpace(got+" "+a.Who), c.want.fate)
	}
	if a.Err != nil {
		return ""
	}
	if !slices.ContainsFunc(c.want.who, func(e endpoint) bool { return e.pod == a.Who }) {
		return fmt.Sprintf("%s answered, want one of %v", a.Who, c.want.who)
	}
	host := tt.w.host(c.from)
	masqueraded := slices.Contains(tt.own, a.Source.Addr())
	switch want := c.want.masqueraded || itself(c.from, a.Who); {
	case c.from == fromNode && masqueraded:
		return ""
	case masqueraded != want, !masqueraded && a.Source.Addr() != host.Addr(c.at.Addr().Is6()):
		return fmt.Sprintf("%s saw %v, want masqueraded=%v", a.Who, a.Source.Addr(), want)
	}
	return ""
}
