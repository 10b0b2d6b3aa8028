package loop

import (
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// A Source says what is wanted. Its methods may be called from any goroutine.
type Source interface {
	// Service returns a Service and its slices, and whether there is one that is ours to serve.
	Service(plan.Name) (plan.Service, []plan.Slice, bool)
	// Names lists all Services.
	Names() []plan.Name
}

// replan plans a Service again and puts its claims in the place of those it had.
func (l *Loop) replan(name plan.Name) {
	old := l.services[name]
	svc, in, ok := l.cfg.Source.Service(name)
	if !ok {
		l.swap(name, old, nil)
		return
	}
	now := l.planned(svc, in)
	now.triggered = l.trigger(old, in)
	l.swap(name, old, now)
}

// planned returns a Service's new state, with numbers for its second lists. A list keeps its number.
func (l *Loop) planned(svc plan.Service, in []plan.Slice) *service {
	s := &service{fragment: plan.Compute(l.cfg.Plan, svc, in, l.node), created: svc.Created}
	fes := s.fragment.Frontends
	slices.SortFunc(fes, func(a, b plan.Frontend) int { return a.Key.Compare(b.Key) })
	for i := range fes {
		in := fes[i].Inside
		if in == nil {
			continue
		}
		if s.numbers == nil {
			s.numbers = map[plan.InsideKey]uint32{}
		}
		if _, ok := s.numbers[in.Key]; !ok {
			s.numbers[in.Key] = l.numbers.take(in.Key, l.numberBefore(&fes[i]))
		}
	}
	return s
}

// numberBefore is the number that the ledger has for a frontend: what the list had before a restart.
func (l *Loop) numberBefore(fe *plan.Frontend) uint32 {
	ledger := l.tables.members[l.tables.sets(fe.Key.Addr).Owned.Name]
	if ledger == nil {
		return 0
	}
	mark, _ := ledger.Known(memberOf(fe.Key))
	return l.cfg.Marks.NumberOf(mark.Value)
}

// swap puts one state of a Service in the place of another. Either may be nil. What both want is claimed again before it
// is given back, so that it never looks unwanted.
func (l *Loop) swap(name plan.Name, old, now *service) {
	if old == nil && now == nil {
		return
	}
	take, giveBack := claimer{tables: l.tables}, claimer{tables: l.tables, drop: true}
	for _, key := range keys(old, now) {
		before, had := l.claims.winner(key)
		l.claims.replace(key, old, now)
		if after, has := l.claims.winner(key); has {
			take.frontend(after)
		}
		if had {
			giveBack.frontend(before)
		}
	}
	take.hairpins(now)
	l.forwards(now)
	giveBack.hairpins(old)
	if old != nil {
		for key, n := range old.numbers {
			l.numbers.release(key, n)
		}
	}
	if now == nil {
		delete(l.services, name)
	} else {
		l.services[name] = now
	}
	l.report(name, old, now)
}

// report tells others what changed for a Service.
func (l *Loop) report(name plan.Name, old, now *service) {
	if h := now.health(); h != nil || old.health() != nil {
		l.cfg.Health(name, h)
	}
	if now != nil {
		now.problems = slices.Concat(now.fragment.Problems, l.claims.conflicts(now), now.unnumbered())
	}
	if !slices.Equal(old.trouble(), now.trouble()) {
		l.cfg.Report(name, now.trouble())
	}
	l.count.swapped(old, now)
}

// trigger returns when the last change happened that led to the slices, and notes those that are new for the
// network-programming latency. Changes from before this program started say nothing about it.
func (l *Loop) trigger(old *service, in []plan.Slice) time.Time {
	seen := l.started
	if old != nil && old.triggered.After(seen) {
		seen = old.triggered
	}
	last := seen
	for i := range in {
		if at := in[i].Triggered; at.After(seen) {
			l.waiting = append(l.waiting, at)
			if at.After(last) {
				last = at
			}
		}
	}
	return last
}
