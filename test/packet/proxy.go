//go:build kernel

// Package packet sends packets through kube-ipvs in a real kernel, and looks who answers and what source it saw.
package packet

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A setup is how the proxy under test is configured.
type setup struct {
	bind          bool
	masqueradeAll bool
	detector      plan.Detector
	drainLimit    time.Duration
	lookInterval  time.Duration
	unknownCIDRs  bool           // the service CIDRs are not known, as with an older API server
	nodePorts     []netip.Prefix // --nodeport-addresses
	healthLimit   time.Duration  // how long something may wait to be programmed before the proxy is unhealthy
}

// clusterCIDR finds pods by their addresses, as most clusters do.
var clusterCIDR = plan.Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}}

// A proxy is kube-ipvs with the real kernel's tables and Services in memory.
type proxy struct {
	*memory
	t      *testing.T
	setup  setup
	cfg    loop.Config
	vitals *health.State
	ports  *health.NodePorts
	vips   *vip.Conn
	stop   context.CancelFunc
	done   chan error

	mu        sync.Mutex
	converged chan struct{} // closed at the next convergence
	last      error
	problems  map[plan.Name][]plan.Problem // what was reported last
}

// start runs a proxy until the test ends. Then all that is the proxy's is removed from the kernel.
func start(t *testing.T, s setup) *proxy {
	t.Helper()
	p := &proxy{
		memory: newMemory(loop.NewQueue()), t: t, setup: s, converged: make(chan struct{}), problems: map[plan.Name][]plan.Problem{},
		vitals: health.NewState(cmp.Or(s.healthLimit, time.Minute)),
	}
	if !s.unknownCIDRs {
		p.cidrs = []netip.Prefix{lab.Services[0].Prefix(false), lab.Services[0].Prefix(true)}
	}
	p.queue.Queued = p.vitals.Queued
	p.ports = health.NewNodePorts(p.vitals, nil, func(name plan.Name, err error) { t.Errorf("%v: %v", name, err) })
	p.configure()
	p.openKernel()
	p.watch()
	p.run()
	t.Cleanup(func() {
		p.halt()
		if err := loop.Clean(context.Background(), p.cfg); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	p.queue.Synced()
	p.settle()
	return p
}

// configure wires the loop as the program does.
func (p *proxy) configure() {
	p.cfg = loop.Config{
		Source: p.memory, Queue: p.queue,
		Families: []ipset.Family{ipset.IPv4, ipset.IPv6}, Marks: plan.MarksFor(14), Detector: p.setup.detector,
		Plan: plan.Config{Scheduler: "rr", MasqueradeAll: p.setup.masqueradeAll, Bind: p.setup.bind},
		Settings: []sysctl.Setting{
			{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv4/vs/conntrack", Value: "1"},
			{Name: "net/ipv4/vs/expire_nodest_conn", Value: "1"}, {Name: "net/ipv4/vs/expire_quiescent_template", Value: "1"},
		},
		Forwarding: map[ipset.Family][]sysctl.Setting{ipset.IPv6: {{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}},
		DrainLimit: cmp.Or(p.setup.drainLimit, time.Minute), LookInterval: p.setup.lookInterval,
		Node:      p.thisNode,
		Health:    p.ports.Set,
		Report:    p.noteProblems,
		Converged: p.noteConverged,
		Metrics:   loop.NewMetrics(prometheus.NewRegistry()),
	}
}

// watch notes what others change, and serves health-check node ports, until the test ends.
func (p *proxy) watch() {
	ctx, stop := context.WithCancel(context.Background())
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return node.Watch(ctx, func() { p.queue.Note(loop.Addresses) }) })
	parts.Go(func() error { return p.vips.Watch(ctx, func() { p.queue.Note(loop.Routes) }) })
	parts.Go(func() error { return p.ports.Run(ctx) })
	p.t.Cleanup(func() {
		stop()
		if err := parts.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			p.t.Error(err)
		}
	})
}

func (p *proxy) openKernel() {
	p.t.Helper()
	table, err := ipvs.Open()
	p.must(err)
	sets, err := ipset.Open()
	p.must(err)
	vips, err := vip.Open()
	p.must(err)
	flows, err := conntrack.Open()
	p.must(err)
	rules, err := iptables.Open(context.Background())
	p.must(err)
	settings := &sysctl.Files{Root: "/proc/sys"}
	p.vips = vips
	p.cfg.IPVS, p.cfg.Sets, p.cfg.VIP, p.cfg.Flows, p.cfg.Rules = table, sets, vips, flows, rules
	p.cfg.Sysctl = settings
	p.t.Cleanup(func() {
		p.must(errors.Join(table.Close(), sets.Close(), vips.Close(), flows.Close(), rules.Close(), settings.Close()))
	})
}

// run starts a loop that knows nothing of an earlier one.
func (p *proxy) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan error, 1)
	l := loop.New(p.cfg)
	go func() { p.done <- l.Run(ctx) }()
}

// halt stops the loop and leaves what it programmed.
func (p *proxy) halt() {
	p.stop()
	p.must(<-p.done)
}

func (p *proxy) thisNode(ctx context.Context) (plan.Node, []netip.Prefix, error) {
	own, err := node.Addresses(ctx)
	return plan.Node{Name: "node1", Zone: "a", Own: own, Addresses: node.Select(own, p.setup.nodePorts)}, p.cidrs, err
}

func (p *proxy) noteProblems(name plan.Name, problems []plan.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems[name] = problems
}

// reported returns what was reported of a Service last.
func (p *proxy) reported(name plan.Name) []plan.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problems[name]
}

func (p *proxy) noteConverged(err error) {
	p.vitals.Converged(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = err
	if err == nil {
		close(p.converged)
		p.converged = make(chan struct{})
	}
}

// settle waits until what was changed before is programmed. The first attempt to end may have begun earlier; the second
// has not.
func (p *proxy) settle() {
	p.t.Helper()
	for range 2 {
		p.mu.Lock()
		converged := p.converged
		p.mu.Unlock()
		p.queue.NodeChanged()
		select {
		case <-converged:
		case <-time.After(time.Minute):
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("not programmed within a minute: %v", p.last)
		}
	}
}

func (p *proxy) must(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

// nodeAddresses are all addresses of the node: a masqueraded source is one of them.
func (p *proxy) nodeAddresses() []netip.Addr {
	own, err := node.Addresses(context.Background())
	p.must(err)
	return own
}
