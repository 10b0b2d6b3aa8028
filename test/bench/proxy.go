package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
)

// A proxy is kube-ipvs on the running kernel with Services in memory, wired as the program wires it: without flags, an API
// server and what answers health checks.
type proxy struct {
	*memory
	table     *ipvs.Conn
	seen      *prometheus.Registry
	converged chan error // of the attempts that nobody has seen yet, the last
	stop      context.CancelFunc
	parts     *errgroup.Group
	close     []func() error
}

// start runs a proxy that waits for its sources to be synced.
func start(ctx context.Context, m *memory, look time.Duration) (p *proxy, err error) {
	p = &proxy{memory: m, seen: prometheus.NewRegistry(), converged: make(chan error, 1)}
	ctx, p.stop = context.WithCancel(ctx)
	p.parts, ctx = errgroup.WithContext(ctx)
	cfg := p.config(look)
	if err := p.openKernel(ctx, &cfg); err != nil {
		return nil, errors.Join(err, p.end())
	}
	vips := cfg.VIP.(*vip.Conn)
	p.parts.Go(func() error { return node.Watch(ctx, func() { m.queue.Note(loop.Addresses) }) })
	p.parts.Go(func() error { return vips.Watch(ctx, func() { m.queue.Note(loop.Routes) }) })
	p.parts.Go(func() error { return loop.New(cfg).Run(ctx) })
	return p, nil
}

func (p *proxy) config(look time.Duration) loop.Config {
	return loop.Config{
		Source: p.memory, Queue: p.queue, LookInterval: look, DrainLimit: time.Minute,
		Families: []ipset.Family{ipset.IPv4, ipset.IPv6}, Marks: plan.MarksFor(14), Plan: plan.Config{Scheduler: "rr"},
		Detector: plan.Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}},
		Settings: []sysctl.Setting{
			{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv4/vs/conntrack", Value: "1"},
			{Name: "net/ipv4/vs/expire_nodest_conn", Value: "1"}, {Name: "net/ipv4/vs/expire_quiescent_template", Value: "1"},
			{Name: "net/ipv4/vs/conn_reuse_mode", Value: "1"},
		},
		Sysctl: &sysctl.Files{Root: "/proc/sys"},
		Node: func(ctx context.Context) (plan.Node, []netip.Prefix, error) {
			own, err := node.Addresses(ctx)
			return plan.Node{Name: "node1", Own: own, Addresses: own}, []netip.Prefix{serviceCIDR}, err
		},
		Health:    func(plan.Name, *plan.Health) {},
		Report:    func(plan.Name, []plan.Problem) {},
		Converged: p.noteConverged,
		Metrics:   loop.NewMetrics(p.seen),
	}
}

func (p *proxy) openKernel(ctx context.Context, cfg *loop.Config) error {
	var err [5]error
	var sets *ipset.Conn
	var vips *vip.Conn
	var flows *conntrack.Conn
	var rules *iptables.Programs
	p.table, err[0] = ipvs.Open()
	sets, err[1] = ipset.Open()
	vips, err[2] = vip.Open()
	flows, err[3] = conntrack.Open()
	rules, err[4] = iptables.Open(ctx)
	if err := errors.Join(err[:]...); err != nil {
		return err
	}
	cfg.IPVS, cfg.Sets, cfg.VIP, cfg.Flows, cfg.Rules = p.table, sets, vips, flows, rules
	p.close = append(p.close, p.table.Close, sets.Close, vips.Close, flows.Close)
	return nil
}

// end ends the proxy. What it programmed goes with the network namespace.
func (p *proxy) end() error {
	p.stop()
	err := p.parts.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	for _, close := range p.close {
		err = errors.Join(err, close())
	}
	return err
}

func (p *proxy) noteConverged(err error) {
	select {
	case <-p.converged:
	default:
	}
	p.converged <- err
}

// program returns when everything is programmed that the sources have.
func (p *proxy) program(ctx context.Context) error {
	p.queue.Synced()
	return p.wait(ctx)
}

// wait returns after the next attempt to program everything.
func (p *proxy) wait(ctx context.Context) error {
	select {
	case err := <-p.converged:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// change gives a Service these endpoints and returns when the kernel has been told so.
func (p *proxy) change(ctx context.Context, name plan.Name, all ...plan.Endpoint) error {
	before := p.table.Stats().Messages
	p.set(name, all...)
	for p.table.Stats().Messages == before {
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle returns when nothing has been programmed for a while: the links and routes that came with the first Services are
// looked at once more.
func (p *proxy) settle(ctx context.Context) error {
	const quiet = 2 * time.Second
	for {
		select {
		case err := <-p.converged:
			if err != nil {
				return err
			}
		case <-time.After(quiet):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// total is the sum of a counter of the proxy over all layers. One that never counted is not there.
func (p *proxy) total(name string) (float64, error) {
	families, err := p.seen.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		sum := 0.0
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
		return sum, nil
	}
	return 0, nil
}
