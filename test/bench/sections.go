package main

import (
	"context"
	"fmt"
)

// A section is measurements that are told together.
type section struct {
	name   string
	rounds int
	make   func(context.Context, int, []trial) (results, error)
	trials []trial
	tell   func(results) finding
}

// A page is sections that are measured in one boot.
type page struct {
	title, by, words string
	sections         []section
}

// pages are the pages by their files' names.
func pages() map[string]page {
	return map[string]page{
		"bench": {
			title: "Benchmarks", by: "make bench",
			words: `Everything is measured in one boot of the test kernel, user-mode Linux: one CPU, system calls about 20 times slower than
elsewhere, and sensitive to other work on the machine. So ratios count, not times. Compared things were measured in turns, each
in a process and network namespace of its own. Figures are medians, and ratios are medians of each round's; brackets hold the
lowest and the highest round. What a packet costs, and that nothing changes, is [counted in instructions](instructions.md).`,
			sections: []section{firstSection(), changeSection(), packetsSection(), besideSection()},
		},
		"instructions": {
			title: "Counted in instructions", by: "make instructions",
			words: `In an emulated machine whose clock counts instructions: what is measured repeats within a few per cent, whatever else the host does. How
long memory takes is left out, and whatever waits. iptables is the one of nft, as nodes have it.`,
			sections: []section{idleSection(), pathSection(), stallSection()}, // in a machine that has done nothing else
		},
	}
}

// measure makes the section's measurements, in so many rounds as it needs if none are said.
func (s section) measure(ctx context.Context, rounds int) (finding, error) {
	if rounds == 0 {
		rounds = s.rounds
	}
	seen, err := s.make(ctx, rounds, s.trials)
	if err != nil {
		return finding{}, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.tell(seen), nil
}

// The sizes.
var (
	one        = size{1, 1}
	few        = size{10, 10}
	small      = size{200, 10}
	medium     = size{1_000, 10}
	broad      = size{1_000, 100}
	large      = size{10_000, 10}
	changeable = []size{small, {2_000, 10}, {20_000, 10}}
)
