package main

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
	"time"

	"kube-ipvs/sync/loop"
)

// idleFor is how long nothing happens. The runtime collects garbage at least every two minutes: one collection is in it.
const idleFor = 2 * time.Minute

// idle measures what it costs that nothing changes: the look at what the kernel tells nobody about runs as it does in the program.
func idle(ctx context.Context, s size) (measurement, error) {
	p, err := start(ctx, newMemory(s), func(cfg *loop.Config) { cfg.LookInterval = loop.LookInterval })
	if err != nil {
		return measurement{}, err
	}
	if err := errors.Join(p.program(ctx), p.settle(ctx)); err != nil {
		return measurement{}, errors.Join(err, p.end())
	}
	return measurement{p.rest, p.end}, nil
}

func (p *proxy) rest(ctx context.Context) (figures, error) {
	runtime.GC() // of the first programming, which is over
	before, err := p.resting()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	elapsed := time.Since(began).Seconds()
	after, err := p.resting()
	if err != nil {
		return nil, err
	}
	for name := range after {
		after[name] -= before[name]
	}
	after["cpu"] *= 100 / elapsed
	after["garbage"] *= 100 / elapsed
	after["machine"] = 100 - after["unused"]*100/elapsed
	return after, nil
}

// resting counts what must stay as it is, or nearly so.
func (p *proxy) resting() (figures, error) {
	cpu, err1 := cpuTime()
	reads, err2 := p.total("kube_ipvs_reads_total")
	drift, err3 := p.total("kube_ipvs_drift_total")
	processes, err4 := begun()
	unused, err5 := unused()
	garbage := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(garbage)
	return figures{"cpu": cpu.Seconds(), "garbage": garbage[0].Value.Float64(), "reads": reads, "drift": drift, "processes": processes, "unused": unused},
		errors.Join(err1, err2, err3, err4, err5)
}
