package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
)

// A trial is a measurement and the size of what it is made with.
type trial struct {
	part string
	size size
}

// A process makes the measurements of a trial, in a network namespace of its own.
type process struct {
	trial
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// start starts the process of a trial. It makes itself ready meanwhile.
func (t trial) start(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{trial: t, cmd: exec.CommandContext(ctx, self, "-part", t.part,
		"-services", strconv.Itoa(t.size.Services), "-endpoints", strconv.Itoa(t.size.Endpoints))}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	return p, p.cmd.Start()
}

// turn makes the measurement once.
func (p *process) turn() (seen figures, err error) {
	if _, err = io.WriteString(p.in, "\n"); err == nil {
		err = p.out.Decode(&seen)
	}
	if err != nil {
		return nil, fmt.Errorf("%s with %v: %w", p.part, p.size, err)
	}
	return seen, nil
}

// end ends the process.
func (p *process) end() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

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
			err = errors.Join(err, p.end())
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
