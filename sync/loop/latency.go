package loop

import (
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// mostWaiting bounds the changes of one Service that are remembered while it cannot be programmed.
const mostWaiting = 100

// A change is a change of endpoints, for the network-programming latency.
type change struct {
	at     time.Time
	family inet.Family
}

// A seen records the changes behind a Service's slices of one family.
type seen struct {
	last  time.Time   // the last one so far
	ahead []time.Time // those in the slices that are in the future by this node's clock
}

// A triggers has the changes behind a Service's slices.
type triggers struct{ v4, v6 seen }

func (t *triggers) of(f inet.Family) *seen {
	if f == inet.IPv6 {
		return &t.v6
	}
	return &t.v4
}

// trigger notes new changes for the network-programming latency, and returns the updated record. Changes from before this
// program's start do not measure it. A change in the future, which anybody can write and a fast clock does, counts as zero
// latency; it hides no earlier one.
func (l *Loop) trigger(name plan.Name, old *service, in []plan.Slice) triggers {
	var before triggers
	if old != nil {
		before = old.triggered
	}
	after := triggers{seen{last: later(before.v4.last, l.started)}, seen{last: later(before.v6.last, l.started)}}
	since, now := after, time.Now()
	for i := range in {
		at, f := in[i].Triggered, in[i].Family
		if !at.After(since.of(f).last) {
			continue
		}
		if !slices.Contains(before.of(f).ahead, at) && len(l.waiting[name]) < mostWaiting {
			l.waiting[name] = append(l.waiting[name], change{earlier(at, now), f})
		}
		if at.After(now) {
			after.of(f).ahead = append(after.of(f).ahead, at)
		} else {
			after.of(f).last = later(at, after.of(f).last)
		}
	}
	return after
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// programmed measures the changes that are in the kernel. A pending one does not hold up others.
func (l *Loop) programmed() {
	for name, changes := range l.waiting {
		if l.isProgrammed(l.services[name]) {
			l.count.programmed(changes)
			delete(l.waiting, name)
		}
	}
}

// isProgrammed reports whether all endpoints of a Service serve at the frontends that it owns. A deleted Service has none.
func (l *Loop) isProgrammed(s *service) bool {
	if s == nil {
		return true
	}
	for i := range s.desired.Frontends {
		fe := &s.desired.Frontends[i]
		if first, _ := l.owners.winner(fe.Address); first.by == s && !l.dataplane.IsProgrammed(fe.Address) {
			return false
		}
	}
	return true
}
