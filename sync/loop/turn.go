package loop

import (
	"context"
	"errors"
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// turn plans what is dirty and has the data plane synced.
func (l *Loop) turn(ctx context.Context) (Result, error) {
	begin, isNews := time.Now(), len(l.dirty) > 0 || l.what&^Synced != 0
	if l.what&Kernel != 0 {
		l.dataplane.Invalidate(Everything)
	}
	if l.what&(Routes|Addresses) != 0 { // with an address of the node's the kernel removes, silently, routes that have it as source
		l.dataplane.Invalidate(Routing)
	}
	l.what &^= Kernel | Routes
	lost := l.renode(ctx)
	var update func()
	if l.located { // or all that there is would look unwanted
		update = l.replanDirty
	}
	result := l.dataplane.Sync(ctx, update)
	for _, a := range result.Changed {
		l.moved[a] = struct{}{}
	}
	l.reviewAll(nil)
	l.programmed()
	l.measure(begin, isNews, result)
	return result, verdict(lost, result)
}

// measure notes the end of an attempt. A turn that finds nothing to do is none.
func (l *Loop) measure(begin time.Time, isNews bool, result Result) {
	if l.attempt.IsZero() && (isNews || result.Busy || !result.Idle) {
		l.attempt = begin
	}
	if l.begun && !result.Busy && !l.attempt.IsZero() {
		l.count.synced(l.attempt)
		l.attempt = time.Time{}
	}
}

// ErrObjects is what errors are that concern single objects alone: everything else is served, and goes on to be. A node
// that calls itself unhealthy for such a one would take all Services from its users for the sake of it, and all nodes at once.
var ErrObjects = errors.New("single objects are not as wanted")

type objectsError struct{ error }

func (objectsError) Is(target error) bool { return target == ErrObjects }
func (e objectsError) Unwrap() error      { return e.error }

// verdict returns why the kernel is not as wanted, or nil. Lost is why the node could not be looked at.
func verdict(lost error, result Result) error {
	err := errors.Join(lost, result.Err)
	if err == nil || lost != nil || result.Blocked {
		return err
	}
	return objectsError{err}
}

// replanDirty plans the Services that changed.
func (l *Loop) replanDirty() {
	if !l.begun { // there are none yet; to grow maps step by step costs twice what they hold
		l.services, l.owners = make(map[plan.Name]*service, len(l.dirty)), make(owners, len(l.dirty))
	}
	names := sorted(l.dirty)
	for _, name := range names {
		l.replan(name)
		l.cfg.Beat()
	}
	l.reviewAll(names)
	l.dirty = map[plan.Name]struct{}{} // a map never shrinks, and the next change would pay for all that there was
	l.begun = true
}

// renode looks at the node if it changed, and marks the Services dirty that depend on what changed. After an error it is
// looked at with the next turn again.
func (l *Loop) renode(ctx context.Context) error {
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
