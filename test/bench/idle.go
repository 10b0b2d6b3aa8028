package main

import (
	"context"
	"errors"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
)

// aloneFor is how long the machine is watched before there is a proxy on it.
const aloneFor = 30 * time.Second

// idleFor is how long nothing happens. The runtime collects garbage at least every two minutes: one collection is in it.
const idleFor = 2 * time.Minute

// idle measures what it costs that nothing changes: the look at what the kernel tells nobody about runs as it does in the program.
func idle(ctx context.Context, s size) (measurement, error) {
	alone, err := busy(ctx, aloneFor)
	if err != nil {
		return measurement{}, err
	}
	p, err := start(ctx, newMemory(s), func(cfg *ipvsmode.Config) { cfg.LookInterval = loop.LookInterval })
	if err != nil {
		return measurement{}, err
	}
	if err := errors.Join(p.program(ctx), p.settle(ctx)); err != nil {
		return measurement{}, errors.Join(err, p.end())
	}
	rest := func(ctx context.Context) (figures, error) {
		f, err := p.rest(ctx)
		if err != nil {
			return nil, err
		}
		// IPVS estimates the rates of all virtual and real servers every two seconds, whoever made them.
		if err := estimate(ctx, p.kernel.Sysctl, false); err != nil {
			return nil, err
		}
		own, err := busy(ctx, idleFor)
		f["alone"], f["more"], f["own"] = alone, f["machine"]-alone, own-alone
		f["estimates"] = f["more"] - f["own"]
		return f, errors.Join(err, estimate(ctx, p.kernel.Sysctl, true))
	}
	return measurement{rest, p.end}, nil
}

// busy returns the share of its CPU, in percent, for which the machine has something to do in the time to come.
func busy(ctx context.Context, long time.Duration) (float64, error) {
	began := time.Now()
	before, err := unused()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(long):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := unused()
	return 100 - (after-before)*100/time.Since(began).Seconds(), err
}

func (p *proxy) rest(ctx context.Context) (figures, error) {
	debug.FreeOSMemory() // of the first programming, which is over: the runtime would give it back for minutes
	before, err := p.resting()
	if err != nil {
		return nil, err
	}
	machine, err := busy(ctx, idleFor)
	if err != nil {
		return nil, err
	}
	after, err := p.resting()
	if err != nil {
		return nil, err
	}
	for name := range after {
		after[name] -= before[name]
	}
	after["cpu"] *= 100 / idleFor.Seconds()
	after["garbage"] *= 100 / idleFor.Seconds()
	after["wakeups"] /= idleFor.Seconds()
	after["machine"] = machine
	return after, nil
}

// resting counts what must stay as it is, or nearly so.
func (p *proxy) resting() (figures, error) {
	cpu, err1 := cpuTime()
	reads, err2 := p.total("kube_ipvs_layer_reads_total")
	drift, err3 := p.total("kube_ipvs_external_changes_total")
	processes, err4 := begun()
	wakeups, err5 := wakeups()
	garbage := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(garbage)
	return figures{"cpu": cpu.Seconds(), "garbage": garbage[0].Value.Float64(), "reads": reads, "drift": drift, "processes": processes, "wakeups": wakeups},
		errors.Join(err1, err2, err3, err4, err5)
}
