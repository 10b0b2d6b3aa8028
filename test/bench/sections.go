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

func sections() []section {
	return []section{firstSection(), changeSection(), idleSection(), packetsSection(), pathSection(), besideSection()}
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
