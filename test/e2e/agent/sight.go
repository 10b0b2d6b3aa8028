package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// A sight of the laboratory is what is seen when packets are sent in it, in words.
type sight struct{ lab *lab.Lab }

// A question is a request that is to be sent, and what should come of it.
type question struct {
	from   *lab.Host
	proto  inet.Protocol
	to     netip.AddrPort
	times  int           // how often to send it, from a new port each time
	wanted []string      // outcomes, any of which will do
	within time.Duration // how long to ask again while none of them is seen
}

// Requests wait this long for an answer: an outcome that says nothing came must be sure, others can be looked for again.
const (
	sure  = time.Second
	brief = 400 * time.Millisecond
)

// answer asks until a wanted outcome is seen or the time is over, and returns the last outcome.
func (s sight) answer(ctx context.Context, q question) (string, error) {
	const pause = 5 * time.Millisecond
	wait := brief
	if q.within == 0 || slices.Contains(q.wanted, silence) {
		wait = sure
	}
	for begin := time.Now(); ; time.Sleep(pause) {
		outcome, err := s.outcome(ctx, q, wait)
		if err != nil || slices.Contains(q.wanted, outcome) || time.Since(begin) > q.within || ctx.Err() != nil {
			return outcome, err
		}
	}
}

// outcome is who answered and which sources they saw, "pod1 pod2 saw client"; or what the first request met that nobody
// answered.
func (s sight) outcome(ctx context.Context, q question, wait time.Duration) (string, error) {
	var who, saw []string
	for range max(1, q.times) {
		a := s.lab.Ask(ctx, q.from, q.proto, q.to, lab.Wait(wait))
		if a.Err != nil {
			return fate(a.Err)
		}
		name, err := s.name(a.Source.Addr())
		if err != nil {
			return "", err
		}
		who, saw = append(who, a.Who), append(saw, name)
	}
	return set(who) + " saw " + set(saw), nil
}

// What becomes of a request that nobody answers. Refused says that someone has no such port, unreachable that there is no
// way to the address, reset that a connection was made and cut: what served it went in that moment.
const (
	refused     = "refused"
	unreachable = "unreachable"
	silence     = "silence"
	reset       = "reset"
)

func fate(err error) (string, error) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return refused, nil
	case errors.Is(err, lab.ErrRefused):
		return unreachable, nil
	case errors.Is(err, lab.ErrSilence):
		return silence, nil
	case errors.Is(err, unix.ECONNRESET):
		return reset, nil
	}
	return "", err
}

// set lists names, each once.
func set(names []string) string {
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// host returns a host by its name.
func (s sight) host(name string) *lab.Host {
	for _, h := range []*lab.Host{s.lab.Node, s.lab.Node2, s.lab.Client} {
		if h.String() == name {
			return h
		}
	}
	return s.lab.Pod(name)
}

// name returns the name of the host that has an address.
func (s sight) name(a netip.Addr) (string, error) {
	for _, name := range []string{"pod1", "pod2", "pod3", "asker", "client", "node2"} {
		if s.host(name).Addr(a.Is6()) == a {
			return name, nil
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("the node's addresses: %w", err)
	}
	for _, o := range own {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr() == a {
			return s.lab.Node.String(), nil
		}
	}
	return a.String(), nil
}
