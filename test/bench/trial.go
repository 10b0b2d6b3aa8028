package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"kube-ipvs/test/child"
)

// A trial is a measurement and the size of what it is made with.
type trial struct {
	part string
	size size
}

// A process makes the measurements of a trial, in a network namespace of its own.
type process struct {
	trial
	*child.Part
}

// start starts the process of a trial. It makes itself ready meanwhile.
func (t trial) start(ctx context.Context) (*process, error) {
	p, err := child.StartPart(ctx, t.part, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET},
		"-services", strconv.Itoa(t.size.Services), "-endpoints", strconv.Itoa(t.size.Endpoints))
	return &process{t, p}, err
}

// turn makes the measurement once.
func (p *process) turn() (seen figures, err error) {
	if err := p.Ask("", &seen); err != nil {
		return nil, fmt.Errorf("with %v: %w", p.size, err)
	}
	return seen, nil
}

// Results are what was seen, round by round.
type results map[trial][]figures

// manyRounds are more than anybody wants to see each.
const manyRounds = 100

// inTurns makes every trial so many times, one after the other: what the machine does meanwhile falls on all of them. All
// stand ready at the same time.
func inTurns(ctx context.Context, rounds int, trials []trial) (seen results, err error) {
	var ready []*process
	defer func() {
		for _, p := range ready {
			err = errors.Join(err, p.End())
		}
	}()
	for _, t := range trials {
		p, err := t.start(ctx)
		if err != nil {
			return nil, err
		}
		ready = append(ready, p)
	}
	seen = results{}
	for round := range rounds {
		for _, p := range ready {
			f, err := p.turn()
			if err != nil {
				return nil, err
			}
			seen[p.trial] = append(seen[p.trial], f)
			if rounds < manyRounds || round == 0 {
				fmt.Fprintf(os.Stderr, "%s with %v: %v\n", p.part, p.size, f)
			}
		}
	}
	return seen, nil
}

// anew makes every trial so many times, each time by a new process.
func anew(ctx context.Context, rounds int, trials []trial) (results, error) {
	seen := results{}
	for range rounds {
		for _, t := range trials {
			once, err := inTurns(ctx, 1, []trial{t})
			if err != nil {
				return nil, err
			}
			seen[t] = append(seen[t], once[t]...)
		}
	}
	return seen, nil
}

// values returns a figure of every round.
func (r results) values(t trial, name string) (values []float64) {
	for _, f := range r[t] {
		values = append(values, f[name])
	}
	return values
}

// median returns the median of a figure.
func (r results) median(t trial, name string) float64 { return median(r.values(t, name)) }

// ratios returns a figure's ratios to that of another trial in the same round.
func (r results) ratios(t, base trial, name string) []float64 {
	return zip(r.values(t, name), r.values(base, name), func(a, b float64) float64 { return a / b })
}

// zip puts two figures of each round together.
func zip(a, b []float64, with func(a, b float64) float64) (out []float64) {
	for i := range a {
		out = append(out, with(a[i], b[i]))
	}
	return out
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the value below which a share of the values lies.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
