package loop

import (
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// A Source holds the Services that are wanted. Its methods may be called from any goroutine.
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
	s := &service{desired: plan.Compute(l.cfg.Plan, svc, in, l.node), uid: svc.UID, created: svc.Created}
	slices.SortFunc(s.desired.Frontends, func(a, b plan.Frontend) int { return a.Address.Compare(b.Address) })
	return s
}

// swap puts one state of a Service in the place of another. Either may be nil. A frontend that changes hands is given to the
// one that owns it now at once, so that it never looks unwanted.
func (l *Loop) swap(name plan.Name, old, now *service) {
	if old == nil && now == nil {
		return
	}
	for _, key := range keys(old, now) {
		before, had := l.owners.winner(key)
		l.owners.replace(key, old, now)
		after, has := l.owners.winner(key)
		if before == after { // who waits for a frontend may come and go
			continue
		}
		l.dataplane.Update(before.fe, after.fe)
		if had && has && !before.sameTo(after) {
			l.moved[key] = struct{}{}
		}
	}
	l.dataplane.UpdateService(old.needs(), now.needs())
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
	l.count.swapped(old, now)
	if old != nil && (now == nil || now.uid != old.uid) { // another one with its name has its own users to tell
		l.tell(old, nil, 0)
	}
	if now != nil && old != nil { // what was told before
		now.problems, now.notServed = old.problems, old.notServed
	}
}

// reviewAll reviews Services that were planned, and those of which a frontend was taken, or to which one was left, meanwhile:
// each once, when all of them are as they are now.
func (l *Loop) reviewAll(planned []plan.Name) {
	names := make(map[plan.Name]struct{}, len(planned))
	for _, name := range planned {
		names[name] = struct{}{}
	}
	for key := range l.moved {
		for _, x := range l.owners[key] {
			names[x.by.desired.Service] = struct{}{}
		}
	}
	clear(l.moved)
	for _, name := range sorted(names) {
		if s := l.services[name]; s != nil {
			l.review(s)
		}
	}
}

// review tells others what of a Service cannot be served.
func (l *Loop) review(s *service) {
	conflicts, n := l.conflicts(s)
	problems := slices.Concat(s.desired.Problems, l.limited(s))
	l.tell(s, append(problems, conflicts...), notServed(problems)+n)
}

// tell tells others about the problems of a Service, if they are news, and counts all that is not served, told or not.
func (l *Loop) tell(s *service, problems []plan.Problem, notServed int) {
	l.count.problems.Add(float64(notServed - s.notServed))
	s.notServed = notServed
	if !slices.Equal(s.problems, problems) {
		l.cfg.Report(s.desired.Service, problems)
		s.problems = problems
	}
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

// A seen is what is known of the changes that led to a Service's slices.
type seen struct {
	last  time.Time   // the last one so far
	ahead []time.Time // of those in the slices, the ones that have not happened yet by this node's clock
}

// trigger notes the changes that are new for the network-programming latency, and returns what is known of them from now on.
// Changes from before this program started say nothing about it. One that is to happen in the future, which anybody can write
// and a clock that is fast does, took no time; it hides none that happens before.
func (l *Loop) trigger(name plan.Name, old *service, in []plan.Slice) seen {
	var before seen
	if old != nil {
		before = old.triggered
	}
	if before.last.Before(l.started) {
		before.last = l.started
	}
	now, after := time.Now(), seen{last: before.last}
	for i := range in {
		at := in[i].Triggered
		if !at.After(before.last) {
			continue
		}
		if !slices.Contains(before.ahead, at) && len(l.waiting[name]) < mostWaiting {
			l.waiting[name] = append(l.waiting[name], earlier(at, now))
		}
		switch {
		case at.After(now):
			after.ahead = append(after.ahead, at)
		case at.After(after.last):
			after.last = at
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

// programmed measures the changes that are in the kernel. One that is not yet holds no other up.
func (l *Loop) programmed() {
	for name, changes := range l.waiting {
		if l.isProgrammed(l.services[name]) {
			l.count.programmed(changes)
			delete(l.waiting, name)
		}
	}
}

// isProgrammed reports whether all endpoints of a Service serve at the frontends that it owns. One that is gone has none.
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
