//go:build kernel && compare

package takeover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A way is from a source to a frontend.
type way struct {
	from, to string
	proto    inet.Protocol
	v6       bool
	service  int // its kind
	at       netip.AddrPort
	denied   bool // source ranges do not allow the source
}

func (w way) String() string {
	return fmt.Sprintf("from %s to %s of Service %s, %v %v", w.from, w.to, kinds[w.service].name, w.proto, w.at)
}

// row is the row of the table that a way is in.
func (w way) row() string {
	service := kinds[w.service].name
	if w.to == control {
		service = "-"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%v\t%s", service, w.from, w.to, w.proto, map[bool]string{false: "IPv4", true: "IPv6"}[w.v6])
}

// control is the frontend of ways past all proxies: what fails there is the machine's fault.
const control = "a pod itself"

// controlled are the protocols of the control.
var controlled = []inet.Protocol{inet.TCP, inet.UDP}

// ways returns every way to all Services, and the control.
func (w *world) ways() (out []way) {
	for n, svc := range w.services {
		for i, v6 := range []bool{false, true} {
			for _, port := range svc.Ports {
				for _, from := range []string{"pod", "node", "outside"} {
					for _, to := range w.frontends(svc, port, i, v6) {
						q := way{from: from, to: to.name, proto: port.Proto, v6: v6, service: n, at: to.at}
						if q.denied = kinds[n].ranged && to.name == loadBalancer && from != "outside"; q.denied && from == "node" {
							continue // kube-proxy's modes differ
						}
						out = append(out, q)
					}
				}
			}
		}
	}
	for _, v6 := range []bool{false, true} {
		for _, proto := range controlled {
			out = append(out, way{from: "outside", to: control, proto: proto, v6: v6, at: netip.AddrPortFrom(w.Pod("pod1").Addr(v6), podPorts[proto])})
		}
	}
	return out
}

const (
	nodePort     = "node port"
	loadBalancer = "load balancer"
)

type frontend struct {
	name string
	at   netip.AddrPort
}

func (w *world) frontends(svc plan.Service, port plan.Port, i int, v6 bool) []frontend {
	return []frontend{
		{"cluster IP", netip.AddrPortFrom(svc.ClusterIPs[i], port.Port)},
		{nodePort, netip.AddrPortFrom(w.Node.Addr(v6), port.NodePort)},
		{"external IP", netip.AddrPortFrom(svc.ExternalIPs[i], port.Port)},
		{loadBalancer, netip.AddrPortFrom(svc.LoadBalancerIPs[i], port.Port)},
	}
}

func (w *world) source(name string) *lab.Host {
	switch name {
	case "pod":
		return w.Pod("asker")
	case "node":
		return w.Node
	}
	return w.Client
}

// A count is what the clients of a way, or of several, saw.
type count struct {
	held, broken, tried, failed int
	late                        int           // of the tried: a segment was lost and sent again
	moved                       int           // of the tried, of a client with affinity: another endpoint answered than before
	denied, passed              int           // tried where source ranges do not allow it, and answered all the same
	silence                     time.Duration // the longest time in which nobody answered new connections, or the one that is held
	why                         map[string]int
}

// wrong is how much went wrong.
func (c *count) wrong() int { return c.broken + c.failed + c.late + c.moved + c.passed }

func (c *count) add(o count) {
	c.held, c.broken, c.tried, c.failed = c.held+o.held, c.broken+o.broken, c.tried+o.tried, c.failed+o.failed
	c.late, c.moved, c.denied, c.passed = c.late+o.late, c.moved+o.moved, c.denied+o.denied, c.passed+o.passed
	c.silence = max(c.silence, o.silence)
}

// Talks are clients that keep a connection each on every way, and begin new ones in turn.
type talks struct {
	w      *world
	begin  time.Time
	stop   context.CancelFunc
	work   sync.WaitGroup
	mu     sync.Mutex
	counts map[way]*count
	lastOK map[way]time.Time
	last   map[way]string // the endpoint that last answered a client with affinity
}

// talk opens a connection on every way, and goes on until end.
func (w *world) talk() *talks {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &talks{w: w, stop: stop, begin: time.Now(), counts: map[way]*count{}, lastOK: map[way]time.Time{}, last: map[way]string{}}
	all := w.ways()
	for _, q := range all {
		s.counts[q], s.lastOK[q] = &count{why: map[string]int{}}, s.begin
		if q.denied {
			continue
		}
		wait := 10 * time.Second
		if q.proto == inet.UDP {
			wait = time.Second
		}
		c, err := w.Dial(ctx, w.source(q.from), q.proto, q.at, lab.Wait(wait), lab.OwnPort(), lab.Fin())
		if err != nil {
			w.t.Fatalf("%v: %v", q, err)
		}
		a := c.Ask(ctx)
		if a.Err != nil {
			w.t.Fatalf("%v: %v", q, a.Err)
		}
		s.last[q] = a.Who
		s.work.Go(func() { s.hold(ctx, q, c, a.Who) })
	}
	denied := slices.DeleteFunc(slices.Clone(all), func(q way) bool { return !q.denied })
	allowed := slices.DeleteFunc(all, func(q way) bool { return q.denied })
	s.work.Go(func() { s.tryInTurn(ctx, *every, withControl(allowed)) })
	s.work.Go(func() { s.tryInTurn(ctx, 100*time.Millisecond, denied) }) // they are few, and a moment without source ranges is short
	return s
}

// hold asks over a connection again and again, and says at the end whether it was answered to the end, and by whom at first.
func (s *talks) hold(ctx context.Context, q way, c *lab.Conn, who string) {
	defer c.Close()
	broken, last, silence := "", time.Now(), time.Duration(0)
	for ctx.Err() == nil && broken == "" {
		a := c.Ask(context.Background())
		if a.Err == nil {
			silence, last = max(silence, time.Since(last)), time.Now()
		}
		switch {
		case a.Err == nil && a.Who != who:
			broken = "another endpoint answers"
		case a.Err != nil && !errors.Is(a.Err, lab.ErrSilence): // which may be a machine that stands still
			broken = reason(a.Err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	at := time.Since(s.begin).Round(100 * time.Millisecond)
	for n := 0; broken == "" && n < 3; n++ {
		a := c.Ask(context.Background())
		if a.Err == nil {
			break
		}
		if n == 2 {
			broken = reason(a.Err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[q].silence = max(s.counts[q].silence, silence)
	if broken == "" {
		s.counts[q].held++
		return
	}
	s.counts[q].broken++
	s.counts[q].why[fmt.Sprintf("held: %s at %v", broken, at)]++
}

// withControl returns ways with one past all proxies before every second.
func withControl(all []way) (turns []way) {
	past := slices.DeleteFunc(slices.Clone(all), func(q way) bool { return q.to != control })
	for i, q := range all {
		if i%2 == 0 {
			turns = append(turns, past[i/2%len(past)])
		}
		turns = append(turns, q)
	}
	return turns
}

// tryInTurn begins new connections, one in an interval, each way in turn.
func (s *talks) tryInTurn(ctx context.Context, interval time.Duration, ways []way) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.work.Go(func() { s.try(ways[i%len(ways)]) })
		}
	}
}

// try begins a connection and asks once.
func (s *talks) try(q way) {
	at := time.Since(s.begin).Round(100 * time.Millisecond)
	who, again, err := s.ask(q)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[q]
	if q.denied {
		if c.denied++; err == nil {
			c.passed++
			c.why[fmt.Sprint("new: passed at ", at)]++
		}
		return
	}
	c.tried++
	if again > 0 {
		c.late++
		c.why[fmt.Sprint("new: sent again at ", at)]++
	}
	if err != nil {
		c.failed++
		c.why[fmt.Sprintf("new: %s at %v", reason(err), at)]++
		c.silence = max(c.silence, time.Since(s.lastOK[q]))
		return
	}
	s.lastOK[q] = time.Now()
	if q.to != control && kinds[q.service].affinity && s.last[q] != who {
		c.moved++
		c.why[fmt.Sprintf("new: %s after %s at %v", who, s.last[q], at)]++
		s.last[q] = who
	}
}

// ask asks over a new connection, and returns who answered, and how many segments were sent again.
func (s *talks) ask(q way) (who string, again int, err error) {
	wait := 5 * time.Second
	if q.denied {
		wait = time.Second
	}
	c, err := s.w.Dial(context.Background(), s.w.source(q.from), q.proto, q.at, lab.Wait(wait), lab.OwnPort(), lab.Fin())
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	a := c.Ask(context.Background())
	if q.proto == inet.TCP && a.Err == nil {
		again, a.Err = c.Repeated()
	}
	return a.Who, again, a.Err
}

func reason(err error) string {
	if errors.Is(err, lab.ErrSilence) {
		return "silence"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ":")+1:]
}

// end ends the clients.
func (s *talks) end() map[way]*count {
	s.stop()
	s.work.Wait()
	return s.counts
}

// report prints a table, and returns the sum, without the control.
func report(counts map[way]*count) (text string, sum count) {
	rows := map[string]*count{}
	var wrong []string
	for q, c := range counts {
		if rows[q.row()] == nil {
			rows[q.row()] = &count{}
		}
		rows[q.row()].add(*c)
		if q.to != control {
			sum.add(*c)
		}
		if c.wrong() > 0 {
			wrong = append(wrong, fmt.Sprintf("%v: %v", q, c.why))
		}
	}
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "Service\tfrom\tto\tprotocol\tfamily\theld\tbroken\ttried\tfailed\tsent again\tmoved\tdenied\tpassed\tsilence")
	names := []string{}
	for name := range rows {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(rows[b].wrong(), rows[a].wrong()), cmp.Compare(a, b))
	})
	for _, name := range append(names, "all by a proxy\t\t\t\t") {
		c := rows[name]
		if c == nil {
			c = &sum
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\n", name, c.held, c.broken, c.tried, c.failed, c.late, c.moved, c.denied, c.passed, c.silence.Round(time.Millisecond))
	}
	out.Flush()
	slices.Sort(wrong)
	return b.String() + strings.Join(wrong, "\n"), sum
}
