package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"kube-ipvs/test/cluster"
)

// A child is a process of a part of a measurement.
type child struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	first reading // when it was ready
}

// begin starts a part of a measurement and waits until it is ready.
func begin(ctx context.Context, part string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: part, cmd: exec.CommandContext(ctx, self, append([]string{"-part", part}, args...)...)}
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the main thread ends
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.out.Decode(&c.first); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", part, err), c.end())
	}
	return c, nil
}

// ask sends a command and returns the reading after it.
func (c *child) ask(command string) (r reading, err error) {
	if _, err = io.WriteString(c.in, command+"\n"); err == nil {
		err = c.out.Decode(&r)
	}
	if err != nil {
		return r, fmt.Errorf("ask %s to %s: %w", c.name, command, err)
	}
	return r, nil
}

func (c *child) end() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

// until reads until a reading will do.
func (c *child) until(ctx context.Context, enough func(reading) bool) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := c.ask("read")
		if err != nil || enough(r) {
			return r, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return r, fmt.Errorf("%s does not get there from %+v: %w", c.name, r, ctx.Err())
		}
	}
}

// quiet reads until nothing has arrived for some seconds.
func (c *child) quiet(ctx context.Context) (reading, error) {
	const still = 3 * time.Second
	last, since := reading{}, time.Now()
	return c.until(ctx, func(r reading) bool {
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
