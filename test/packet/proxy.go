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

	"golang.org/x/sync/errgroup"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/wire"
)

// A setup is how the proxy under test is configured.
type setup struct {
	bind          bool
	masqueradeAll bool
	detector      ipvsmode.Detector
	drainLimit    time.Duration
	lookInterval  time.Duration
	unknownCIDRs  bool             // the service CIDRs are not known, as with an older API server
	nodePorts     config.NodePorts // --nodeport-addresses
	healthLimit   time.Duration    // how long something may wait to be programmed before the proxy is unhealthy
}

// clusterCIDR finds pods by their addresses, as most clusters do.
var clusterCIDR = ipvsmode.Detector{Prefixes: wire.PodCIDRs}

// A proxy is kube-ipvs with the real kernel's tables and Services in memory.
type proxy struct {
	*wire.Memory
	t      *testing.T
	setup  setup
	queue  *loop.Queue
	cidrs  []netip.Prefix
	kernel wire.Kernel
	cfg    ipvsmode.Config
	vitals *health.State
	ports  *health.NodePorts
	loop   *loop.Loop
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
		Memory: wire.NewMemory(), t: t, setup: s, converged: make(chan struct{}), problems: map[plan.Name][]plan.Problem{},
		vitals: health.NewState(cmp.Or(s.healthLimit, time.Minute)),
	}
	p.queue = p.Memory.Queue
	if !s.unknownCIDRs {
		p.cidrs = []netip.Prefix{lab.Services[0].Prefix(false), lab.Services[0].Prefix(true)}
	}
	p.queue.Queued = p.vitals.Queued
	p.ports = health.NewNodePorts(p.vitals, nil, func(name plan.Name, err error) { t.Errorf("%v: %v", name, err) })
	p.openKernel()
	p.configure()
	p.watch()
	p.run()
	t.Cleanup(func() {
		p.halt()
		if err := ipvsmode.Clean(context.Background(), p.cfg.Kernel); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	p.queue.Synced()
	p.settle()
	return p
}

// configure wires the loop.
func (p *proxy) configure() {
	p.cfg = p.kernel.Config(p.Memory)
	p.cfg.Detector = p.setup.detector
	p.cfg.Plan.MasqueradeAll, p.cfg.Plan.Bind = p.setup.masqueradeAll, p.setup.bind
	p.cfg.DrainLimit, p.cfg.LookInterval = cmp.Or(p.setup.drainLimit, time.Minute), p.setup.lookInterval
	p.cfg.Node, p.cfg.Health = p.thisNode, p.ports.Set
	p.cfg.Report, p.cfg.Converged = p.noteProblems, p.noteConverged
}

// watch notes what others change, and serves health-check node ports, until the test ends.
func (p *proxy) watch() {
	ctx, stop := context.WithCancel(context.Background())
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return p.kernel.Watch(ctx, p.queue) })
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
	var err error
	p.kernel, err = wire.Open(context.Background())
	p.must(err)
	p.t.Cleanup(func() { p.must(p.kernel.Close()) })
}

// set and remove are what a test asks of kube-proxy, too.
func (p *proxy) set(svc plan.Service, slices ...plan.Slice) { p.Set(svc, slices...) }
func (p *proxy) remove(name plan.Name)                      { p.Remove(name) }

// run starts a loop that knows nothing of an earlier one.
func (p *proxy) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan error, 1)
	l := ipvsmode.New(p.cfg)
	p.loop = l
	go func() { p.done <- l.Run(ctx) }()
}

// halt stops the loop and leaves what it programmed.
func (p *proxy) halt() {
	p.stop()
	p.must(<-p.done)
}

func (p *proxy) thisNode(ctx context.Context) (plan.Node, []netip.Prefix, error) {
	own, err := node.Addresses(ctx)
	return plan.Node{Name: "node1", Zone: "a", Own: own, Addresses: p.setup.nodePorts.Select(own, [2]netip.Addr{})}, p.cidrs, err
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
