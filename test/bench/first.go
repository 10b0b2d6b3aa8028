package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"kube-ipvs/ipvs"
)

// floor writes the virtual and real servers that the Services need with the writer alone, from operations that are there
// already: nothing that programs as much through the same door is faster.
func floor(_ context.Context, s size) (measurement, error) {
	touch()
	table, err := ipvs.Open()
	if err != nil {
		return measurement{}, err
	}
	ops := make([]ipvs.Op, 0, s.Services+s.reals())
	for i := range s.Services {
		key := ipvs.AddrKey(ipvs.TCP, netip.AddrPortFrom(clusterIP(i), servicePort))
		ops = append(ops, ipvs.Op{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}})
		for _, e := range endpoints(i, s.Endpoints) {
			ops = append(ops, ipvs.Op{Verb: ipvs.AddReal, Key: key, Addr: netip.AddrPortFrom(e.Addr, podPort), Real: ipvs.Real{Weight: 1}})
		}
	}
	turn := func(ctx context.Context) (figures, error) {
		watch, err := newStopwatch()
		if err != nil {
			return nil, err
		}
		if err := errors.Join(table.Do(ctx, ops)...); err != nil {
			return nil, err
		}
		return watch.figures()
	}
	return measurement{turn, table.Close}, nil
}

// warm is first in a process that has touched its memory before, as floor is: see touch.
func warm(ctx context.Context, s size) (measurement, error) {
	touch()
	return first(ctx, s)
}

// first programs an empty kernel, from the moment at which the sources are synced until the last object is there, and
// weighs what is in memory then: the Services and endpoints as the source holds them, and all that was made of them.
func first(ctx context.Context, s size) (measurement, error) {
	before := weigh()
	m := newMemory(s)
	source := weigh()
	p, err := start(ctx, m)
	if err != nil {
		return measurement{}, err
	}
	turn := func(ctx context.Context) (figures, error) {
		watch, err := newStopwatch()
		if err != nil {
			return nil, err
		}
		if err := p.program(ctx); err != nil {
			return nil, err
		}
		seen, err1 := watch.figures()
		err2 := p.settle(ctx)
		seen["heap"] = float64(weigh()-before) / float64(s.reals())
		seen["source"] = float64(source-before) / float64(s.reals())
		var err3 error
		seen["resident"], seen["peak"], err3 = residentMiB(os.Getpid())
		return seen, errors.Join(err1, err2, err3)
	}
	return measurement{turn, p.end}, nil
}

// A stopwatch measures time, and CPU time of this process.
type stopwatch struct {
	began time.Time
	cpu   time.Duration
}

func newStopwatch() (stopwatch, error) {
	cpu, err := cpuTime()
	return stopwatch{time.Now(), cpu}, err
}

// figures are the seconds, and those on the CPU.
func (w stopwatch) figures() (figures, error) {
	elapsed := time.Since(w.began)
	cpu, err := cpuTime()
	return figures{"seconds": elapsed.Seconds(), "cpu": (cpu - w.cpu).Seconds()}, err
}
