package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"kube-ipvs/test/child"
	"kube-ipvs/test/cluster"
)

// A part is a process for a part of a measurement.
type part struct {
	*child.Part
	name  string
	first reading // when it was ready
}

// begin starts a part of a measurement and waits until it is ready.
func begin(ctx context.Context, name string, args ...string) (*part, error) {
	started, err := child.StartPart(ctx, name, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}, args...) // when the main thread ends
	if err != nil {
		return nil, err
	}
	p := &part{Part: started, name: name}
	late := time.AfterFunc(patience, p.Kill)
	defer late.Stop()
	if err := p.Read(&p.first); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), p.End())
	}
	return p, nil
}

// ask sends a command and returns the reading after it.
func (p *part) ask(command string) (r reading, err error) {
	err = p.Ask(command, &r)
	return r, err
}

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

// until reads until a reading will do.
func (p *part) until(ctx context.Context, enough func(reading) bool) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := p.ask("read")
		if err != nil || enough(r) {
			return r, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return r, fmt.Errorf("%s does not get there from %+v: %w", p.name, r, ctx.Err())
		}
	}
}

// quiet reads until nothing has arrived for some seconds.
func (p *part) quiet(ctx context.Context) (reading, error) {
	const still = 3 * time.Second
	last, since := reading{}, time.Now()
	return p.until(ctx, func(r reading) bool {
		if r.In != last.In || r.Requests != last.Requests {
			last, since = r, time.Now()
		}
		return time.Since(since) > still
	})
}

// serverCPU is the CPU time of the API server in seconds.
func serverCPU(c *cluster.Cluster) (float64, error) {
	file := fmt.Sprintf("/proc/%d/stat", c.ServerPID())
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	const user, system, ticks = 11, 12, 100 // fields after the name's (proc_pid_stat(5)); USER_HZ
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) <= system {
		return 0, fmt.Errorf("%s: %q", file, text)
	}
	sum := 0.0
	for _, i := range []int{user, system} {
		n, err := strconv.ParseFloat(string(fields[i]), 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += n / ticks
	}
	return sum, nil
}
