package main

import (
	"context"
	"errors"
	"slices"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/test/wire"
)

// writes makes the changes of IPVS, and of the members of sets too if they are wanted, that a first programming makes: in the
// same order and as many at once, from operations that are there already. That is what of it the kernel and its doors cost.
// What is missing is the constant part, and what decides what is to be written.
func writes(sets bool) part {
	return func(ctx context.Context, s size) (measurement, error) {
		touch()
		all, err := record(ctx, newMemory(s))
		if err != nil {
			return measurement{}, err
		}
		kernel, err := wire.Open(ctx)
		if err != nil {
			return measurement{}, err
		}
		turn := func(ctx context.Context) (figures, error) { return all.replay(ctx, kernel, sets) }
		return measurement{turn, kernel.Close}, nil
	}
}

// record lets a loop program fakes, and returns what it asked them for. In the kernel it would leave something behind: IPVS
// remembers real servers that were removed for two minutes, in a list that it searches for each that is added
// (ip_vs_trash_get_dest).
func record(ctx context.Context, source *wire.Memory) (tape, error) {
	var all tape
	p, err := start(ctx, source, func(cfg *ipvsmode.Config) {
		cfg.IPVS, cfg.Sets = tapedIPVS{new(ipvs.Fake), &all}, tapedSets{ipset.NewFake(), &all}
		cfg.Rules = new(iptables.Fake)
	})
	if err != nil {
		return all, err
	}
	err = errors.Join(p.program(ctx), p.settle(ctx), p.end())
	return all, err
}

// A tape is what a loop asked for: sets, and changes of tables.
type tape struct {
	sets   []ipset.Set
	writes []taped
}

// A taped change is of IPVS or of sets.
type taped struct {
	ipvs []ipvs.Op
	sets []ipset.Op
}

// replay makes the sets, and then, on the watch, the changes.
func (t tape) replay(ctx context.Context, kernel wire.Kernel, sets bool) (figures, error) {
	for _, set := range t.sets {
		if err := kernel.Sets.Create(ctx, set); err != nil {
			return nil, err
		}
	}
	watch, err := newStopwatch()
	if err != nil {
		return nil, err
	}
	for _, w := range t.writes {
		var errs []error
		switch {
		case w.sets == nil:
			errs = kernel.IPVS.Do(ctx, w.ipvs)
		case sets:
			errs = kernel.Sets.Do(ctx, w.sets)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	return watch.figures()
}

// A tapedIPVS notes every change of the table.
type tapedIPVS struct {
	ipvs.Kernel
	*tape
}

// Do is part of ipvs.Kernel.
func (t tapedIPVS) Do(ctx context.Context, ops []ipvs.Op) []error {
	t.writes = append(t.writes, taped{ipvs: slices.Clone(ops)})
	return t.Kernel.Do(ctx, ops)
}

// A tapedSets notes every set and every change of its members.
type tapedSets struct {
	ipset.Kernel
	*tape
}

// Create is part of ipset.Kernel.
func (t tapedSets) Create(ctx context.Context, set ipset.Set) error {
	t.sets = append(t.sets, set)
	return t.Kernel.Create(ctx, set)
}

// Do is part of ipset.Kernel.
func (t tapedSets) Do(ctx context.Context, ops []ipset.Op) []error {
	t.writes = append(t.writes, taped{sets: slices.Clone(ops)})
	return t.Kernel.Do(ctx, ops)
}
