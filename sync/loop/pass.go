package loop

import (
	"context"
	"errors"
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// pass is one pass of a sync: it plans the dirty Services and syncs the data plane.
func (l *Loop) pass(ctx context.Context) (Result, error) {
	begin, isNews := time.Now(), len(l.dirty) > 0 || l.what&^Synced != 0
	if l.what&^Synced != 0 {
		l.count.worksInAll()
	}
	if l.what&Kernel != 0 {
		l.dataplane.Invalidate(Everything)
	}
	if l.what&(Routes|Addresses) != 0 { // with a node address the kernel silently removes the routes that use it as source
		l.dataplane.Invalidate(Routing)
	}
	l.what &^= Kernel | Routes
	lost := l.updateNode(ctx)
	var update func()
	if l.located { // otherwise all existing objects would be undesired
		update = l.planDirty
	}
	result := l.dataplane.Sync(ctx, update)
	for _, a := range result.Changed {
		l.moved[a] = struct{}{}
	}
	l.reportAll(nil)
	l.programmed()
	err := syncError(lost, result)
	l.measure(begin, isNews, result, err)
	return result, err
}

// measure notes the end of a sync. A pass without work does not count.
func (l *Loop) measure(begin time.Time, isNews bool, result Result, err error) {
	h := &l.history
	if h.began.IsZero() && (isNews || result.Busy || !result.Idle) {
		h.began = begin
	}
	if l.begun && !result.Busy && !h.began.IsZero() {
		l.count.synced(h.began, err)
		h.end(err, result.Repaired)
	}
}

// ErrObjects matches errors that concern single objects only: everything else is and stays served. If a node reported itself
// unhealthy for one object, its users would lose all Services, on all nodes at once.
var ErrObjects = errors.New("single objects are not as desired")

type objectsError struct{ error }

func (objectsError) Is(target error) bool { return target == ErrObjects }
func (e objectsError) Unwrap() error      { return e.error }

// syncError returns the error of a sync, or nil. Lost is the error of reading the node.
func syncError(lost error, result Result) error {
	err := errors.Join(lost, result.Err)
	if err == nil || lost != nil || result.Blocked {
		return err
	}
	return objectsError{err}
}

// planDirty plans the Services that changed.
func (l *Loop) planDirty() {
	if !l.begun { // the first time; maps that grow step by step cost twice their size
		l.services, l.owners = make(map[plan.Name]*service, len(l.dirty)), make(owners, len(l.dirty))
	}
	names := sorted(l.dirty)
	for _, name := range names {
		l.planService(name)
		l.cfg.Beat()
	}
	l.history.planned += len(names)
	l.reportAll(names)
	l.dirty = map[plan.Name]struct{}{} // a map never shrinks, and the next change would pay for its past size
	if !l.begun {
		l.begun, l.digests.since = true, time.Now()
	}
}

// updateNode reads the node again if it changed, and marks the Services dirty that depend on the change. After an error the next
// sync pass reads it again.
func (l *Loop) updateNode(ctx context.Context) error {
	if l.what&(Node|Addresses) == 0 {
		return nil
	}
	node, cidrs, err := l.cfg.Node(ctx)
	if err != nil {
		return err
	}
	l.what &^= Node | Addresses
	before := l.node
	same := l.located && node.Name == before.Name && node.Zone == before.Zone && slices.Equal(cidrs, l.cfg.Plan.ServiceCIDRs)
	l.node, l.located = node, true
	l.cfg.Plan.ServiceCIDRs = cidrs
	l.dataplane.SetNode(node, cidrs)
	switch {
	case !same:
		for _, name := range l.cfg.Source.Names() {
			l.dirty[name] = struct{}{}
		}
	case !slices.Equal(node.Own, before.Own) || !slices.Equal(node.Addresses, before.Addresses) || !slices.Equal(node.Primary, before.Primary):
		for name, s := range l.services {
			if s.desired.UsesAddresses {
				l.dirty[name] = struct{}{}
			}
		}
	}
	return nil
}

func sorted(names map[plan.Name]struct{}) []plan.Name {
	out := make([]plan.Name, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	slices.SortFunc(out, plan.Name.Compare)
	return out
}
