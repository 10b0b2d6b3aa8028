package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/wire"
)

// A proxy is kube-ipvs on the running kernel with Services in memory.
type proxy struct {
	*wire.Memory
	kernel    wire.Kernel
	seen      *prometheus.Registry
	converged chan error // of the attempts that nobody has seen yet, the last
	stop      context.CancelFunc
	parts     *errgroup.Group
}

// start runs a proxy that waits for its sources to be synced. The edits change its configuration before.
func start(ctx context.Context, m *wire.Memory, edits ...func(*ipvsmode.Config)) (p *proxy, err error) {
	p = &proxy{Memory: m, seen: prometheus.NewRegistry(), converged: make(chan error, 1)}
	if p.kernel, err = wire.Open(ctx); err != nil {
		return nil, err
	}
	cfg := p.kernel.Config(m)
	cfg.Node, cfg.Converged, cfg.Metrics = thisNode, p.noteConverged, ipvsmode.NewMetrics(p.seen, loop.MetricsConfig{Families: cfg.Families})
	for _, edit := range edits {
		edit(&cfg)
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.parts, ctx = errgroup.WithContext(ctx)
	p.parts.Go(func() error { return p.kernel.Watch(ctx, m.Queue) })
	p.parts.Go(func() error { return ipvsmode.New(cfg).Run(ctx) })
	return p, nil
}

func thisNode(ctx context.Context) (plan.Node, []netip.Prefix, error) {
	own, err := node.Addresses(ctx)
	return plan.Node{Name: "node1", Own: own, Addresses: own}, []netip.Prefix{serviceCIDR}, err
}

// end ends the proxy. What it programmed goes with the network namespace.
func (p *proxy) end() error {
	p.stop()
	err := p.parts.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, p.kernel.Close())
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
	p.Queue.Synced()
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
	before := p.kernel.IPVS.Stats().Messages
	p.serve(name, all...)
	for p.kernel.IPVS.Stats().Messages == before {
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serve gives a Service these endpoints.
func (p *proxy) serve(name plan.Name, all ...plan.Endpoint) {
	svc, _, _ := p.Service(name)
	p.Set(svc, slicesOf(name, all)...)
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
