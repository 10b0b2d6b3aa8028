package ipvsmode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Of package loop.
const (
	retryLeast    = 100 * time.Millisecond
	retryMost     = 10 * time.Second
	mostConflicts = 10
	mostWaiting   = 100
)

// A rig is a loop on fakes that say what they are asked, and refuse what they are told to refuse.
type rig struct {
	t *testing.T

	ipvs     *ipvs.Fake
	sets     *ipset.Fake
	steering *steering.Fake
	rules    *iptables.Fake
	queue    *loop.Queue
	loop     *loop.Loop // that was started last
	seen     *prometheus.Registry

	families     []inet.Family
	lookInterval time.Duration    // 0: never
	slow         bool             // the table takes time
	tweak        func(*Dataplane) // changes a loop before it runs; nil: nothing
	adjust       func(*Config)    // changes its configuration; nil: nothing
	log          klog.Logger      // its zero value logs nothing

	mu        sync.Mutex
	services  map[plan.Name]plan.Service
	together  []plan.Name // Services that change together with the next one that does
	slices    map[plan.Name][]plan.Slice
	node      plan.Node
	nodeError error
	located   int // how often the node was asked for
	refuse    func(what string) error
	lose      func(what string) error  // an error in the place of the answer to what was carried out
	after     func(op string)          // called after each operation, if set
	foreign   map[ipvs.Key]bool        // virtual servers that others made
	hung      map[string]chan struct{} // what does not answer before the channel is closed
	hanging   int                      // how many that were asked for it have not ended yet
	asked     []string
	converged []error
	reports   []string
	report    func(plan.Name, []plan.Problem) // told, too, if set
	health    []string
}

var errRefused = errors.New("refused")

func newRig(t *testing.T) *rig {
	return &rig{
		t: t, hung: map[string]chan struct{}{}, foreign: map[ipvs.Key]bool{}, ipvs: new(ipvs.Fake), sets: ipset.NewFake(), steering: steering.NewFake(), rules: new(iptables.Fake),
		families: []inet.Family{inet.IPv4}, services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{},
		node: plan.Node{Name: "node1", Own: []netip.Addr{netip.MustParseAddr("192.168.0.1")}, Addresses: []netip.Addr{netip.MustParseAddr("192.168.0.1")}},
	}
}

func (r *rig) config() Config {
	k := asked{r}
	r.seen = prometheus.NewRegistry()
	var table ipvs.Kernel = askedIPVS{k}
	if r.slow {
		table = slowTable{table}
	}
	return Config{
		Kernel: Kernel{
			IPVS: table, Sets: askedSets{k, r.sets}, Steering: askedSteering{k}, Rules: askedRules{k, r.rules}, Sysctl: sysctl.NewFake(),
			Flows: new(conntrack.Fake),
		},
		Families: r.families, Marks: MarksFor(14), DrainLimit: time.Hour, Metrics: NewMetrics(r.seen, loop.MetricsConfig{Families: r.families}),
		Config: loop.Config{
			Source: r, Queue: r.queue, Plan: plan.Config{Scheduler: "rr"}, LookInterval: r.lookInterval, Node: r.locate,
			Health: func(name plan.Name, h *plan.Health) { r.note(&r.health, fmt.Sprint(name, h)) },
			Report: func(name plan.Name, p []plan.Problem) {
				r.note(&r.reports, fmt.Sprint(name, p))
				if r.report != nil {
					r.report(name, p)
				}
			},
			Converged: func(err error) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.converged = append(r.converged, err)
			},
		},
	}
}

// start runs a loop until the test, or the function that is returned, ends it.
func (r *rig) start() (stop func()) {
	r.queue = loop.NewQueue()
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), r.log))
	cfg := r.config()
	if r.adjust != nil {
		r.adjust(&cfg)
	}
	d := newDataplane(cfg)
	if r.tweak != nil {
		r.tweak(d)
	}
	l := d.loop()
	r.loop = l
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-ended }
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) note(in *[]string, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*in = append(*in, what)
}

func (r *rig) locate(context.Context) (plan.Node, []netip.Prefix, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.located++
	return r.node, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, r.nodeError
}

func (r *rig) Names() []plan.Name {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []plan.Name
	for name := range r.services {
		out = append(out, name)
	}
	return out
}

func (r *rig) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.services[name]
	return s, r.slices[name], ok
}

// set makes a Service with a cluster IP what the edits say, and tells nobody.
func (r *rig) set(n int, endpoints []plan.Endpoint, edits ...func(*plan.Service)) plan.Name {
	name := plan.Name{Namespace: "default", Name: fmt.Sprintf("s%05d", n)}
	svc := plan.Service{
		Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})},
		Ports: []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80}},
	}
	for _, edit := range edits {
		edit(&svc)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[name] = svc
	r.slices[name] = []plan.Slice{{Service: name, Family: inet.IPv4, Ports: []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}, Endpoints: endpoints}}
	return name
}

func (r *rig) change(n int, endpoints []plan.Endpoint, edits ...func(*plan.Service)) {
	name := r.set(n, endpoints, edits...)
	r.mu.Lock()
	names := append(r.together, name)
	r.together = nil
	r.mu.Unlock()
	r.queue.ServicesChanged(names...)
}

// remove deletes a Service with its slices.
func (r *rig) remove(n int) {
	name := plan.Name{Namespace: "default", Name: fmt.Sprintf("s%05d", n)}
	r.mu.Lock()
	delete(r.services, name)
	delete(r.slices, name)
	r.mu.Unlock()
	r.queue.ServiceChanged(name)
	synctest.Wait()
}

// pods are ready endpoints at 10.244.0.N on another node.
func pods(last ...byte) []plan.Endpoint {
	var out []plan.Endpoint
	for _, n := range last {
		out = append(out, plan.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, n}), Node: "node2", Ready: true, Serving: true})
	}
	return out
}

// take returns what the kernel was asked since the last time.
func (r *rig) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.asked
	r.asked = nil
	return out
}

// attempts returns what the attempts since the last time ended with.
func (r *rig) attempts() []error {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.converged
	r.converged = nil
	return out
}

// ask notes what the kernel is asked for, and returns an error if it is to refuse it.
func (r *rig) ask(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, what)
	if r.refuse == nil {
		return nil
	}
	return r.refuse(what)
}

// let sets what is refused from now on.
func (r *rig) let(refuse func(what string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

// refusing refuses one thing.
func refusing(what ...string) func(string) error {
	return func(asked string) error {
		if slices.Contains(what, asked) {
			return errRefused
		}
		return nil
	}
}

// hang lets the rules not answer when they are asked for something, until they are released or the context ends.
func (r *rig) hang(what string) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hung := make(chan struct{})
	r.hung[what] = hung
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.hung, what)
		close(hung)
	}
}

// answer waits as long as what was asked for hangs. When it is killed it takes a moment to end.
func (r *rig) answer(ctx context.Context, what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	hung := r.hung[what]
	if hung == nil {
		return nil
	}
	r.hanging++
	r.mu.Unlock()
	select {
	case <-hung:
	case <-ctx.Done():
		time.Sleep(time.Nanosecond)
	}
	r.mu.Lock()
	r.hanging--
	return ctx.Err()
}

type asked struct{ *rig }

func each[Op fmt.Stringer](a asked, ops []Op, do func([]Op) []error) []error {
	var errs []error
	for i, op := range ops {
		err := a.ask(op.String())
		if err == nil {
			err = cmp.Or(errors.Join(do([]Op{op})...), a.done(op.String()))
		}
		if err != nil && errs == nil {
			errs = make([]error, len(ops))
		}
		if err != nil {
			errs[i] = err
		}
	}
	return errs
}

type askedIPVS struct{ asked }

func (a askedIPVS) Read(ctx context.Context) (ipvs.Table, error) {
	if err := a.ask("read IPVS"); err != nil {
		return nil, err
	}
	return a.ipvs.Read(ctx)
}

func (a askedIPVS) ReadServer(ctx context.Context, k ipvs.Key) (ipvs.Entry, error) {
	if err := a.ask(fmt.Sprintf("read %v", k)); err != nil {
		return ipvs.Entry{}, err
	}
	return a.ipvs.ReadServer(ctx, k)
}

func (a askedIPVS) Count(ctx context.Context) (int, error) {
	if err := a.ask("count"); err != nil {
		return 0, err
	}
	return a.ipvs.Count(ctx)
}

func (a askedIPVS) Walk(ctx context.Context, fn func(ipvs.Key, ipvs.Entry)) error {
	if err := a.ask("walk"); err != nil {
		return err
	}
	return a.ipvs.Walk(ctx, fn)
}

func (a askedIPVS) Do(ctx context.Context, ops []ipvs.Op) []error {
	return each(a.asked, ops, func(ops []ipvs.Op) []error { return a.ipvs.Do(ctx, ops) })
}

type askedSets struct {
	asked
	ipset.Kernel
}

func (a askedSets) Names(ctx context.Context) ([]string, error) {
	if err := a.ask("read names"); err != nil {
		return nil, err
	}
	return a.Kernel.Names(ctx)
}

func (a askedSets) Create(ctx context.Context, s ipset.Set) error {
	if err := a.ask("create " + s.Name); err != nil {
		return err
	}
	return a.Kernel.Create(ctx, s)
}

func (a askedSets) Read(ctx context.Context, s ipset.Set) (map[ipset.Member]ipset.Mark, error) {
	if err := a.ask("read " + s.Name); err != nil {
		return nil, err
	}
	return a.Kernel.Read(ctx, s)
}

func (a askedSets) Do(ctx context.Context, ops []ipset.Op) []error {
	return each(a.asked, ops, func(ops []ipset.Op) []error { return a.Kernel.Do(ctx, ops) })
}

type askedSteering struct{ asked }

func (a askedSteering) Read(ctx context.Context) (steering.Items, error) {
	if err := a.ask("read routes"); err != nil {
		return nil, err
	}
	return a.steering.Read(ctx)
}

func (a askedSteering) Do(ctx context.Context, ops []steering.Op) []error {
	return each(a.asked, ops, func(ops []steering.Op) []error { return a.steering.Do(ctx, ops) })
}

type askedRules struct {
	asked
	iptables.Kernel
}

func (a askedRules) Ensure(ctx context.Context, r iptables.Ruleset) error {
	if err := errors.Join(a.ask("ensure rules"), a.answer(ctx, "ensure rules")); err != nil {
		return err
	}
	return a.Kernel.Ensure(ctx, r)
}

func (a askedRules) InSync(ctx context.Context, f inet.Family) (bool, error) {
	if err := errors.Join(a.ask("read rules"), a.answer(ctx, "read rules")); err != nil {
		return false, err
	}
	return a.Kernel.InSync(ctx, f)
}

// reported returns what was reported of Services since the last time.
func (r *rig) reported() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.reports
	r.reports = nil
	return out
}
