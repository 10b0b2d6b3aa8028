package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/test/lab"
)

// askingFor is how long a pod asks in one go: short enough that the machine has the same pace for what is compared.
const askingFor = 250 * time.Millisecond

// packets measures new TCP connections from a pod to a cluster IP, against such connections straight to a pod: one after the
// other, each with a request, a reply and its end. The pod that is asked straight is another one: while IPVS remembers a
// connection from a port of the client to a pod, nothing else gets through from that port to that pod.
func packets(ctx context.Context, s size) (measurement, error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return measurement{}, err
	}
	direct := netip.AddrPortFrom(st.Pod("new").Addr(false), podPort)
	turn := func(ctx context.Context) (figures, error) {
		return compare(ctx, st.Lab, st.frontend(), direct)
	}
	return measurement{turn, st.close}, nil
}

// compare asks straight and through a proxy, one after the other.
func compare(ctx context.Context, l *lab.Lab, proxy, pod netip.AddrPort) (figures, error) {
	straight, err := askFor(ctx, l, askingFor, pod)
	if err != nil {
		return nil, err
	}
	through, err := askFor(ctx, l, askingFor, proxy)
	if err != nil {
		return nil, err
	}
	return figures{
		"direct": straight.rate, "directTail": straight.tail, "rate": through.rate, "tail": through.tail,
		"share": through.rate / straight.rate, "tailRatio": through.tail / straight.tail,
	}, nil
}

// A pace is how many connections were made in a second, and how long the slowest hundredth of them took.
type pace struct{ rate, tail float64 }

// askFor asks an address as often as it can for a while.
func askFor(ctx context.Context, l *lab.Lab, limit time.Duration, to netip.AddrPort) (pace, error) {
	var times []float64
	began := time.Now()
	for last := began; last.Sub(began) < limit; {
		if answer := l.Ask(ctx, l.Pod("asker"), ipvs.TCP, to); answer.Err != nil {
			return pace{}, fmt.Errorf("ask %v: %w", to, answer.Err)
		}
		now := time.Now()
		times = append(times, now.Sub(last).Seconds())
		last = now
	}
	return pace{rate: float64(len(times)) / time.Since(began).Seconds(), tail: quantile(times, 0.99)}, nil
}
