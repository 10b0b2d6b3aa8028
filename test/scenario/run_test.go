package scenario

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// A run is a scenario on its way through its steps: a kernel, and a loop that works on it.
type run struct {
	*scenario
	t      *testing.T
	states []*manifest.Source // by step
	kernel parts
	trace  *trace // nil: the loop works on the kernel itself
	source source
	queue  *loop.Queue
	stop   func()
	seen   *prometheus.Registry

	mu        sync.Mutex
	addresses string
	cidrs     []netip.Prefix
	attempts  int
	last      error // of the last attempt
	problems  map[plan.Name][]plan.Problem
	health    map[plan.Name]*plan.Health
}

func (s *scenario) loadAll(t *testing.T) []*manifest.Source {
	t.Helper()
	var out []*manifest.Source
	for _, step := range s.steps {
		out = append(out, s.load(t, step.objects))
	}
	return out
}

func newRun(t *testing.T, s *scenario, states []*manifest.Source, kernel parts) *run {
	r := &run{scenario: s, t: t, states: states, kernel: kernel, stop: func() {}, addresses: s.flags.addresses}
	r.trace = &trace{to: kernel, check: r.check}
	return r
}

// start starts a new loop.
func (r *run) start() {
	r.stop()
	r.queue = loop.NewQueue()
	r.seen = prometheus.NewRegistry()
	r.problems, r.health = map[plan.Name][]plan.Problem{}, map[plan.Name]*plan.Health{}
	r.last, r.attempts = nil, 0
	cfg := r.flags.config()
	on := r.kernel
	if r.trace != nil {
		on = r.trace.parts()
	}
	cfg.IPVS, cfg.Sets, cfg.Steering, cfg.Rules, cfg.Sysctl, cfg.Flows = on.ipvs, on.sets, on.steering, on.rules, on.sysctl, on.flows
	cfg.Source, cfg.Queue, cfg.Metrics = &r.source, r.queue, ipvsmode.NewMetrics(r.seen, loop.MetricsConfig{Families: cfg.Families})
	cfg.Node, cfg.Report, cfg.Health, cfg.Converged = r.node, r.report, r.healthIs, r.converged

	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	ended := make(chan struct{})
	l := ipvsmode.New(cfg)
	go func() {
		defer close(ended)
		if err := l.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-ended; r.stop = func() {} }
	r.queue.Synced()
}

func (r *run) node(context.Context) (plan.Node, []netip.Prefix, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.flags.planNode(r.addresses)
	if zone := r.source.get().Node().Zone; zone != "" {
		n.Zone = zone
	}
	return n, r.cidrs, nil
}

func (r *run) report(name plan.Name, problems []plan.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[name] = problems
}

func (r *run) healthIs(name plan.Name, h *plan.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health[name] = h
}

func (r *run) converged(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts++
	r.last = err
}

// enter lets happen what happens in a step.
func (r *run) enter(i int) {
	r.t.Helper()
	step := r.steps[i]
	for _, c := range step.byHand {
		if err := r.kernel.carryOut(c); err != nil {
			r.t.Fatalf("by-hand%s: %v", step.suffix, err)
		}
	}
	for _, c := range step.connections {
		r.connect(c)
	}
	before := r.source.get()
	r.turnTo(i)
	switch {
	case i == 0 || step.restart:
		r.start()
	default:
		r.tell(before, r.states[i], step)
	}
	time.Sleep(step.wait)
}

// turnTo makes the objects and addresses of a step the present ones.
func (r *run) turnTo(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.source.set(r.states[i])
	r.cidrs = r.scenario.cidrs(r.states[i])
	if a := r.steps[i].addresses; a != "" {
		r.addresses = a
	}
}

// tell tells the loop what is different.
func (r *run) tell(before, now *manifest.Source, step step) {
	if names := changed(before, now); len(names) > 0 {
		r.queue.ServicesChanged(names...) // a step is one change: the loop must not plan a part of it
	}
	if !object.SameNode(before.Node(), now.Node()) || !slices.Equal(r.scenario.cidrs(before), r.scenario.cidrs(now)) {
		r.queue.NodeChanged()
	}
	if step.addresses != "" {
		r.queue.Note(loop.Addresses)
	}
	if len(step.byHand) > 0 {
		r.queue.Note(loop.Kernel)
	}
}

// connect sets how many connections a real server has.
func (r *run) connect(c connection) {
	r.t.Helper()
	fake, ok := r.kernel.ipvs.(*ipvs.Fake)
	if !ok {
		r.t.Fatal("only a fake kernel's connections can be set")
	}
	for key := range fake.Table() {
		if strings.HasPrefix((ipvs.Table{key: {}}).String(), c.server+" ") {
			real := ipvs.RealKeyOf(key, netip.MustParseAddrPort(c.real))
			if err := fake.SetConnections(real, c.active, c.inactive); err != nil {
				r.t.Fatal(err)
			}
			return
		}
	}
	r.t.Fatalf("no server %s", c.server)
}

// dump returns what is to be found after a step.
func (r *run) dump() map[string]string {
	r.t.Helper()
	out := r.kernel.dump(r.t, r.flags)
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems, health strings.Builder
	for _, name := range slices.SortedFunc(maps.Keys(r.problems), plan.Name.Compare) {
		for _, p := range r.problems[name] {
			fmt.Fprintln(&problems, p)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(r.health), plan.Name.Compare) {
		if h := r.health[name]; h != nil {
			fmt.Fprintf(&health, "%v: port %d, %d local\n", name, h.Port, h.LocalEndpoints)
		}
	}
	out["problems"], out["health"] = problems.String(), health.String()
	return out
}

// state returns whether an attempt was made and the last one succeeded.
func (r *run) state() (done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts > 0 && r.last == nil, r.last
}

// pending returns the layers that are not as wanted.
func (r *run) pending() []string {
	r.t.Helper()
	families, err := r.seen.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "kube_ipvs_layer_objects" && m.GetLabel()[1].GetValue() == "pending" && m.GetGauge().GetValue() != 0 {
				out = append(out, fmt.Sprintf("%s: %v", m.GetLabel()[0].GetValue(), m.GetGauge().GetValue()))
			}
		}
	}
	return out
}

// check fails if an operation is out of order: before it, a packet would have gone astray, or after it a kill would have
// left something that nobody knows.
func (r *run) check(what string) {
	c, err := parseCommand(strings.Fields(what))
	if err != nil {
		return // not an operation on tables or sets
	}
	switch {
	case c.ipvs != nil && c.ipvs.Verb == ipvs.AddServer && !r.inLedger(c.ipvs.Key):
		r.t.Errorf("%s: its ledger line does not stand", what)
	case c.ipvs != nil && c.ipvs.Verb == ipvs.DelServer && r.isMember("FRONTENDS", c.ipvs.Key):
		r.t.Errorf("%s: its frontend is on", what)
	case c.ipvs != nil && c.ipvs.Verb == ipvs.DelReal && r.schedules(*c.ipvs):
		r.t.Errorf("%s: it gets connections until that moment", what)
	case c.set != nil && c.set.Verb == 0 && strings.HasSuffix(c.set.Set.Name, "FRONTENDS"):
		key := ipvs.Key{Addr: c.set.Member.Addr, Proto: c.set.Member.Proto, Port: c.set.Member.Port}
		if _, err := r.kernel.ipvs.ReadServer(context.Background(), key); err != nil {
			r.t.Errorf("%s: %v", what, err)
		}
	case c.set != nil && c.set.Verb == 0 && strings.HasSuffix(c.set.Set.Name, "INTERNAL"):
		key := ipvs.Key{Addr: ipvsmode.Alias(c.set.Member.Addr), Proto: c.set.Member.Proto, Port: c.set.Member.Port}
		if _, err := r.kernel.ipvs.ReadServer(context.Background(), key); err != nil {
			r.t.Errorf("%s: %v", what, err)
		}
	}
}

// schedules reports whether the real server of an op gets new connections that would not outlive it: its weight is not 0. Datagrams are
// none, and those that are made through an alias need it no more.
func (r *run) schedules(op ipvs.Op) bool {
	entry, err := r.kernel.ipvs.ReadServer(context.Background(), op.Key)
	outlives := op.Key.Proto == inet.UDP || inet.AliasRange(inet.FamilyOf(op.Key.Addr)).Contains(op.Key.Addr)
	return err == nil && !outlives && entry.Reals[op.Addr].Weight > 0
}

func (r *run) inLedger(k ipvs.Key) bool { return r.isMember("OWNED", k) }

// isMember says that a frontend is in a set of ours.
func (r *run) isMember(set string, k ipvs.Key) bool {
	for name, defined := range definitions() {
		if !strings.HasSuffix(name, set) || defined.Family != inet.FamilyOf(k.Addr) {
			continue
		}
		members, err := r.kernel.sets.Read(context.Background(), defined)
		if err != nil {
			return false
		}
		if k.Mark != 0 {
			for _, mark := range members {
				if mark.Value == k.Mark {
					return true
				}
			}
			return false
		}
		_, ok := members[ipset.Member{Addr: k.Addr, Proto: k.Proto, Port: k.Port}]
		return ok
	}
	return false
}
