package main

import (
	"context"
	"errors"
	"slices"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/test/wire"
)

// writes makes all changes of IPVS and of members of sets that a first programming makes, in the same order and as much at
// once, from operations that are there already: what of a first programming the kernel and its doors cost. What is missing is
// the constant part, and what decides what is to be written.
func writes(ctx context.Context, s size) (measurement, error) {
	all, err := record(ctx, newMemory(s))
	if err != nil {
		return measurement{}, err
	}
	kernel, err := wire.Open(ctx)
	if err != nil {
		return measurement{}, err
	}
	for _, set := range all.sets {
		if err := kernel.Sets.Create(ctx, set); err != nil {
			return measurement{}, errors.Join(err, kernel.Close())
		}
	}
	turn := func(ctx context.Context) (figures, error) {
		watch, err := newStopwatch()
		if err != nil {
			return nil, err
		}
		for _, write := range all.writes {
			if err := errors.Join(write(ctx, kernel)...); err != nil {
				return nil, err
			}
		}
		return watch.figures()
	}
	return measurement{turn, kernel.Close}, nil
}

// record lets a loop program fakes, and returns what it asked them for. In the kernel it would leave something behind: IPVS
// remembers real servers that were removed for two minutes, in a list that it searches for each that is added
// (ip_vs_trash_get_dest).
func record(ctx context.Context, source *wire.Memory) (tape, error) {
	var all tape
	p, err := start(ctx, source, func(cfg *loop.Config) {
		cfg.IPVS, cfg.Sets = tapedIPVS{new(ipvs.Fake), &all}, tapedSets{ipset.NewFake(), &all}
		cfg.Rules = new(iptables.Fake)
	})
	if err != nil {
		return all, err
	}
	err = errors.Join(p.program(ctx), p.settle(ctx), p.end())
	return all, err
}

// A tape is what a loop asked for: sets, and changes in tables.
type tape struct {
	sets   []ipset.Set
	writes []func(context.Context, wire.Kernel) []error
}

// A tapedIPVS notes every change of the table.
type tapedIPVS struct {
	ipvs.Kernel
	*tape
}

// Do is part of ipvs.Kernel.
func (t tapedIPVS) Do(ctx context.Context, ops []ipvs.Op) []error {
	ops = slices.Clone(ops)
	t.writes = append(t.writes, func(ctx context.Context, k wire.Kernel) []error { return k.IPVS.Do(ctx, ops) })
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
	ops = slices.Clone(ops)
	t.writes = append(t.writes, func(ctx context.Context, k wire.Kernel) []error { return k.Sets.Do(ctx, ops) })
	return t.Kernel.Do(ctx, ops)
}
