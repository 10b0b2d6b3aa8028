package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// warm is first in a process that has touched its memory before, as writes has: see touch.
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
