package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

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

// String shows the figures by their names.
func (f figures) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		out = append(out, fmt.Sprintf("%s %.4g", name, f[name]))
	}
	return strings.Join(out, ", ")
}

// A measurement stands ready to be made, as often as somebody wants.
type measurement struct {
	turn func(context.Context) (figures, error)
	end  func() error
}

// A part makes a measurement ready.
type part func(context.Context, size) (measurement, error)

func parts() map[string]part {
	all := map[string]part{
		"writes": writes(false), "all writes": writes(true), "first": first, "warm": warm, "change": change, "idle": idle, "packets": packets, "stall": stall,
		ours: beside(ours), ipvsMode: beside(ipvsMode), iptablesMode: beside(iptablesMode),
	}
	for _, contender := range []string{nobody, conntrack, divert, external, bind, peerIPVS, peerRules} {
		all["path, "+contender] = pathOf(contender)
	}
	return all
}

// be makes the measurement that this process is for: once for every line that it reads.
func (o options) be(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	ready, ok := parts()[o.part]
	if !ok {
		return errors.New("no such measurement")
	}
	if err := loopback(); err != nil {
		return err
	}
	stop, err := o.startProfile()
	if err != nil {
		return err
	}
	defer stop()
	m, err := ready(ctx, o.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		seen, err := m.turn(ctx)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(seen); err != nil {
			return err
		}
	}
	return nil
}

// startProfile profiles the process until stop is called, if that is wanted.
func (o options) startProfile() (stop func(), err error) {
	if o.profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(o.profile)
	if err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, pprof.StartCPUProfile(f)
}

// loopback sets lo up, which is down in a new network namespace, as no node's is.
func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
