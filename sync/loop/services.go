package loop

import (
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// A Source holds the desired Services. Its methods may be called from any goroutine.
type Source interface {
	// Service returns a Service and its slices, and reports whether it exists and is ours to serve.
	Service(plan.Name) (plan.Service, []plan.Slice, bool)
	// Names lists all Services.
	Names() []plan.Name
}

// planService plans a Service again and replaces its claims.
func (l *Loop) planService(name plan.Name) {
	old := l.services[name]
	svc, in, ok := l.cfg.Source.Service(name)
	if !ok {
		delete(l.waiting, name) // as in kube-proxy: the changes of a deleted Service do not count
		l.replaceService(name, old, nil)
		return
	}
	now := l.planned(svc, in)
	now.triggered = l.trigger(name, old, in)
	l.replaceService(name, old, now)
}

// planned returns a Service's new state.
func (l *Loop) planned(svc plan.Service, in []plan.Slice) *service {
	s := &service{desired: plan.Compute(l.cfg.Plan, svc, in, l.node), uid: svc.UID, created: svc.Created, digest: plan.Digest(svc, in)}
	slices.SortFunc(s.desired.Frontends, func(a, b plan.Frontend) int { return a.Address.Compare(b.Address) })
	return s
}

// replaceService replaces a Service's state. Either may be nil. A frontend that changes its owner passes to the new one at once, so that
// it is never undesired in between.
func (l *Loop) replaceService(name plan.Name, old, now *service) {
	if old == nil && now == nil {
		return
	}
	for _, key := range keys(old, now) {
		l.count.works(inet.FamilyOf(key.Addr))
		before, had := l.owners.winner(key)
		l.owners.replace(key, old, now)
		after, has := l.owners.winner(key)
		if before == after { // only other claimants changed
			continue
		}
		l.dataplane.Update(before.fe, after.fe)
		if had && has && !before.sameTo(after) {
			l.moved[key] = struct{}{}
		}
	}
	l.dataplane.UpdateService(old.needs(), now.needs())
	l.digests.replace(name, old, now)
	if now == nil {
		delete(l.services, name)
	} else {
		l.services[name] = now
	}
	l.report(name, old, now)
}

// report reports the changes of a Service.
func (l *Loop) report(name plan.Name, old, now *service) {
	if h := now.health(); h != nil || old.health() != nil {
		l.cfg.Health(name, h)
	}
	l.count.replaced(old, now)
	if old != nil && (now == nil || now.uid != old.uid) { // a new Service of the same name has users of its own
		l.tell(old, nil, 0, 0)
	}
	if now != nil && old != nil { // as reported before
		now.problems, now.notServed, now.conflicts = old.problems, old.notServed, old.conflicts
	}
}

// reportAll reports the problems of the planned Services, and all claimants of frontends that meanwhile got a new owner or status: each once,
// after all changes.
func (l *Loop) reportAll(planned []plan.Name) {
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
			l.reportProblems(s)
		}
	}
}

// reportProblems reports the problems of a Service.
func (l *Loop) reportProblems(s *service) {
	conflicts, n := l.conflicts(s)
	problems := slices.Concat(s.desired.Problems, l.limited(s))
	l.tell(s, append(problems, conflicts...), notServed(problems)+n, n)
}

// tell reports the problems of a Service if they changed, and counts all unserved parts, reported or not, and the conflicts
// among them.
func (l *Loop) tell(s *service, problems []plan.Problem, notServed, conflicts int) {
	l.count.problems.Add(float64(notServed - s.notServed))
	l.count.conflicts.Add(float64(conflicts - s.conflicts))
	l.unserved += notServed - s.notServed
	l.conflicting += conflicts - s.conflicts
	s.notServed, s.conflicts = notServed, conflicts
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
