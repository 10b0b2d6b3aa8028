package loop

import (
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/delta"
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
		delete(l.waiting, name) // as kube-proxy: what is gone was never programmed
		l.swap(name, old, nil)
		return
	}
	now := l.planned(svc, in)
	now.triggered = l.trigger(name, old, in)
	l.swap(name, old, now)
}

// planned returns a Service's new state.
func (l *Loop) planned(svc plan.Service, in []plan.Slice) *service {
	s := &service{fragment: plan.Compute(l.cfg.Plan, svc, in, l.node), uid: svc.UID, created: svc.Created}
	slices.SortFunc(s.fragment.Frontends, func(a, b plan.Frontend) int { return a.Key.Compare(b.Key) })
	return s
}

// swap puts one state of a Service in the place of another. Either may be nil. What both want is claimed again before it
// is given back, so that it never looks unwanted.
func (l *Loop) swap(name plan.Name, old, now *service) {
	if old == nil && now == nil {
		return
	}
	take, giveBack := claimer{tables: l.tables}, claimer{tables: l.tables, drop: true}
	all := keys(old, now)
	for _, key := range all {
		before, had := l.claims.winner(key)
		l.claims.replace(key, old, now)
		if after, has := l.claims.winner(key); has {
			take.frontend(after)
		}
		if had {
			giveBack.frontend(before)
		}
	}
	l.passOn()
	take.hairpins(now)
	take.probed(now)
	l.forwards(now)
	giveBack.hairpins(old)
	giveBack.probed(old)
	if now == nil {
		delete(l.services, name)
	} else {
		l.services[name] = now
	}
	l.report(name, old, now)
	for _, s := range l.claims.rivals(all, now) {
		l.review(s)
	}
}

// passOn plans the Services again that waited for an alias that is free now.
func (l *Loop) passOn() {
	for _, name := range l.tables.freed {
		l.cfg.Queue.ServiceChanged(name)
	}
	l.tables.freed = nil
}

// report tells others what changed for a Service.
func (l *Loop) report(name plan.Name, old, now *service) {
	if h := now.health(); h != nil || old.health() != nil {
		l.cfg.Health(name, h)
	}
	l.count.swapped(old, now)
	if old != nil && (now == nil || now.uid != old.uid) { // another one with its name has its own users to tell
		l.tell(old, nil)
	}
	if now != nil {
		if old != nil {
			now.problems = old.problems // what was told before
		}
		l.review(now)
	}
}

// review tells others what of a Service cannot be served.
func (l *Loop) review(s *service) {
	l.tell(s, slices.Concat(s.fragment.Problems, l.claims.conflicts(s), l.aliasTaken(s)))
}

// tell tells others about the problems of a Service, if they are news.
func (l *Loop) tell(s *service, problems []plan.Problem) {
	if slices.Equal(s.problems, problems) {
		return
	}
	l.cfg.Report(s.fragment.Service, problems)
	l.count.problems.Add(float64(notServed(problems) - notServed(s.problems)))
	s.problems = problems
}

// notServed counts the problems that are more than a note.
func notServed(problems []plan.Problem) int {
	n := 0
	for _, p := range problems {
		if !p.Note {
			n++
		}
	}
	return n
}

// mostWaiting is how many changes of one Service are remembered while it cannot be programmed.
const mostWaiting = 100

// trigger returns when the last change happened that led to the slices, and notes those that are new for the
// network-programming latency. Changes from before this program started say nothing about it.
func (l *Loop) trigger(name plan.Name, old *service, in []plan.Slice) time.Time {
	seen := l.started
	if old != nil && old.triggered.After(seen) {
		seen = old.triggered
	}
	last := seen
	for i := range in {
		if at := in[i].Triggered; at.After(seen) {
			if len(l.waiting[name]) < mostWaiting {
				l.waiting[name] = append(l.waiting[name], at)
			}
			if at.After(last) {
				last = at
			}
		}
	}
	return last
}

// programmed measures the changes that are in the kernel. One that is not yet holds no other up.
func (l *Loop) programmed() {
	for name, changes := range l.waiting {
		if l.tables.isProgrammed(l.services[name], l.claims) {
			l.count.programmed(changes)
			delete(l.waiting, name)
		}
	}
}

// isProgrammed says that all endpoints of a Service serve at the frontends that it has. One that is gone has none.
func (t *tables) isProgrammed(s *service, c claims) bool {
	if s == nil {
		return true
	}
	for i := range s.fragment.Frontends {
		fe := &s.fragment.Frontends[i]
		if first, _ := c.winner(fe.Key); first.by != s || !t.has(fe.Key.Addr) {
			continue
		}
		on := stands(t.members[t.sets(fe.Key.Addr).Frontends.Name], memberOf(fe.Key))
		if !on || !t.serves(fe.Key, fe.Reals) {
			return false
		}
		if in := fe.Internal; t.hasAlias(fe) && !t.serves(in.Key, in.Reals) {
			return false
		}
	}
	return true
}

// serves says that a virtual server has these real servers.
func (t *tables) serves(server ipvs.Key, reals []netip.AddrPort) bool {
	return !slices.ContainsFunc(reals, func(at netip.AddrPort) bool { return !stands(t.reals, ipvs.RealKeyOf(server, at)) })
}

// stands says that a wanted object is there as wanted.
func stands[K, V comparable](t *delta.Table[K, V], key K) bool {
	wanted, isWanted := t.Wanted(key)
	known, isKnown := t.Known(key)
	return isWanted && isKnown && wanted == known
}
