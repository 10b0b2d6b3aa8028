package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// askingFor is how long a pod asks in one go: short enough that the machine has the same pace for what is compared.
const askingFor = 250 * time.Millisecond

// packetTurns is how often a pod asks in a round, each way: some thousand connections, of which the slowest hundredth is
// still many.
const packetTurns = 24

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
		return compare(ctx, st.Lab, packetTurns, st.frontend(), direct)
	}
	return measurement{turn, st.close}, nil
}

// compare asks through a proxy and straight, in turns.
func compare(ctx context.Context, l *lab.Lab, turns int, proxy, pod netip.AddrPort) (figures, error) {
	var through, straight paces
	for i := range turns {
		asks := []func() error{
			func() error { return through.ask(ctx, l, proxy) },
			func() error { return straight.ask(ctx, l, pod) },
		}
		if err := errors.Join(asks[i%2](), asks[(i+1)%2]()); err != nil { // neither is always the first
			return nil, err
		}
	}
	tail, directTail := quantile(through.times, 0.99), quantile(straight.times, 0.99)
	return figures{
		"count": float64(len(through.times)), "directCount": float64(len(straight.times)),
		"rate": median(through.rates), "direct": median(straight.rates),
		"share": median(zip(through.rates, straight.rates, func(a, b float64) float64 { return a / b })),
		"tail":  tail, "directTail": directTail, "tailRatio": tail / directTail,
	}, nil
}

// Paces are how many connections were made in a second, turn by turn, and how long each of all took.
type paces struct{ rates, times []float64 }

// ask asks an address as often as it can for a while.
func (p *paces) ask(ctx context.Context, l *lab.Lab, to netip.AddrPort) error {
	before, began := len(p.times), time.Now()
	for last := began; last.Sub(began) < askingFor; {
		if answer := l.Ask(ctx, l.Pod("asker"), inet.TCP, to); answer.Err != nil {
			return fmt.Errorf("ask %v: %w", to, answer.Err)
		}
		now := time.Now()
		p.times = append(p.times, now.Sub(last).Seconds())
		last = now
	}
	p.rates = append(p.rates, float64(len(p.times)-before)/time.Since(began).Seconds())
	return nil
}
