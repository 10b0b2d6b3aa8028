package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/ipvs"
)

// How long a pod asks in one go, and how often it asks directly and through the Service in turns.
const (
	askingFor   = 2 * time.Second
	askingTurns = 5
)

// packets measures new TCP connections from a pod to a cluster IP, against such connections to the pod behind it: one after
// the other, each with a request, a reply and its end.
func packets(ctx context.Context, s size) (seen figures, err error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	direct := netip.AddrPortFrom(st.Pod("old").Addr(false), podPort)
	var rounds []figures
	for range askingTurns {
		straight, err := st.askFor(ctx, askingFor, direct)
		if err != nil {
			return nil, err
		}
		through, err := st.askFor(ctx, askingFor, st.frontend())
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, figures{
			"direct": straight.rate, "directTail": straight.tail, "rate": through.rate, "tail": through.tail,
			"share": through.rate / straight.rate, "tailRatio": through.tail / straight.tail,
		})
	}
	return medians(rounds), nil
}

// A pace is how many connections were made in a second, and how long the slowest hundredth of them took.
type pace struct{ rate, tail float64 }

// askFor asks an address as often as it can for a while.
func (s *stage) askFor(ctx context.Context, limit time.Duration, to netip.AddrPort) (pace, error) {
	var times []float64
	began := time.Now()
	for last := began; last.Sub(began) < limit; {
		if answer := s.Ask(ctx, s.Pod("asker"), ipvs.TCP, to); answer.Err != nil {
			return pace{}, fmt.Errorf("ask %v: %w", to, answer.Err)
		}
		now := time.Now()
		times = append(times, now.Sub(last).Seconds())
		last = now
	}
	return pace{rate: float64(len(times)) / time.Since(began).Seconds(), tail: quantile(times, 0.99)}, nil
}
