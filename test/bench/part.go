package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
)

// A size is how much there is to serve.
type size struct{ Services, Endpoints int }

// String returns the size in words.
func (s size) String() string {
	return fmt.Sprintf("%s Services x %d endpoints", thousands(s.Services), s.Endpoints)
}

// reals is how many real servers the size makes.
func (s size) reals() int { return s.Services * s.Endpoints }

// Figures are what a measurement saw, by names.
type figures map[string]float64

// A part is one measurement.
type part func(context.Context, size) (figures, error)

func parts() map[string]part {
	return map[string]part{
		"floor": floor, "first": first, "warm": warm, "change": change, "idle": idle, "packets": packets,
	}
}

// be makes the measurement that this process is for.
func (o options) be(ctx context.Context) (seen figures, err error) {
	do, ok := parts()[o.part]
	if !ok {
		return nil, errors.New("no such measurement")
	}
	if err := loopback(); err != nil {
		return nil, err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	return do(ctx, o.size)
}

// loopback sets lo up, which is down in a new network namespace, as no node's is.
func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// A trial is a measurement and the size of what it is made with.
type trial struct {
	part string
	size size
}

// make makes the measurement once, in a process and a network namespace of its own.
func (t trial) make(ctx context.Context) (figures, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-part", t.part,
		"-services", strconv.Itoa(t.size.Services), "-endpoints", strconv.Itoa(t.size.Endpoints))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s with %v: %w", t.part, t.size, err)
	}
	var seen figures
	return seen, json.Unmarshal(out, &seen)
}

// Results are the medians of all rounds.
type results map[trial]figures

// inTurns makes every trial so many times, one after the other: what the machine does meanwhile falls on all of them.
func inTurns(ctx context.Context, rounds int, trials ...trial) (results, error) {
	all := map[trial][]figures{}
	for range rounds {
		for _, t := range trials {
			seen, err := t.make(ctx)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "%s with %v: %v\n", t.part, t.size, seen)
			all[t] = append(all[t], seen)
		}
	}
	out := results{}
	for t, seen := range all {
		out[t] = medians(seen)
	}
	return out, nil
}

func medians(seen []figures) figures {
	out := figures{}
	for name := range seen[0] {
		var values []float64
		for _, f := range seen {
			values = append(values, f[name])
		}
		out[name] = median(values)
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
