package loop

import (
	"context"
	"errors"
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// turn plans what is dirty and converges. Again says that what failed is due to be tried again.
func (l *Loop) turn(ctx context.Context, again bool) error {
	for _, layer := range l.layers {
		if again {
			layer.again()
		}
		// With an address of the node's the kernel removes, silently, routes that have it as source.
		routing := layer.name() == vipsTitle || layer.name() == boundTitle
		if l.what&Kernel != 0 || routing && l.what&(Routes|Addresses) != 0 {
			layer.doubt()
		}
	}
	l.what &^= Kernel | Routes | answered
	lost := l.renode(ctx)
	l.observe(ctx)
	if l.mayBegin() {
		l.replanDirty()
		l.converge(ctx)
		l.assess(ctx)
		l.reviewAll(nil)
		l.programmed()
	}
	return l.verdict(lost)
}

// ErrObjects is what errors are that concern single objects alone: everything else is served, and goes on to be. A node
// that calls itself unhealthy for such a one would take all Services from its users for the sake of it, and all nodes at once.
var ErrObjects = errors.New("single objects are not as wanted")

type objectsError struct{ error }

func (objectsError) Is(target error) bool { return target == ErrObjects }
func (e objectsError) Unwrap() error      { return e.error }

// verdict returns why the kernel is not as wanted, or nil. Lost is why the node could not be looked at.
func (l *Loop) verdict(lost error) error {
	err := errors.Join(lost, l.trouble())
	if err == nil || lost != nil || l.hindered() {
		return err
	}
	return objectsError{err}
}

// hindered reports whether more than single objects cannot be programmed: something could not be read, what all frontends
// of a family need does not stand, or the kernel refuses every change of a layer.
func (l *Loop) hindered() bool {
	for f := range l.tables.families {
		if !l.givenUp(f) && !l.stands(f) {
			return true
		}
	}
	return slices.ContainsFunc(l.layers, layer.hinders)
}

// mayBegin says that enough is known to plan: where this node is, and which virtual servers are ours. Without, all that stands
// would look unwanted.
func (l *Loop) mayBegin() bool {
	return l.begun || l.located && !l.ledgersUnread()
}

// observe reads what cannot be trusted any more. Nothing is done in a layer that could not be read.
func (l *Loop) observe(ctx context.Context) {
	for _, layer := range l.layers {
		layer.observe(ctx)
		l.cfg.Beat()
	}
	l.read, l.readItems = nil, nil
}

// replanDirty plans the Services that changed.
func (l *Loop) replanDirty() {
	if !l.begun { // there are none yet; to grow maps step by step costs twice what they hold
		l.services, l.claims = make(map[plan.Name]*service, len(l.dirty)), make(claims, len(l.dirty))
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
	l.admitIPv6(before.Own, node.Own)
	l.reroute(cidrs)
	switch {
	case !same:
		for _, name := range l.cfg.Source.Names() {
			l.dirty[name] = struct{}{}
		}
	case !slices.Equal(node.Own, before.Own) || !slices.Equal(node.Addresses, before.Addresses) || !slices.Equal(node.Primary, before.Primary):
		for name, s := range l.services {
			if s.fragment.UsesAddresses {
				l.dirty[name] = struct{}{}
			}
		}
	}
	return nil
}

// converge ensures layer by layer, then prunes the other way round. A layer that fails stops no other: what depends on
// an object that is missing is held back by itself.
func (l *Loop) converge(ctx context.Context) {
	if l.attempt.IsZero() {
		l.attempt = time.Now()
	}
	l.spare(ctx)
	for _, layer := range l.layers {
		if !layer.unread() {
			layer.ensure(ctx)
		}
	}
	for _, layer := range slices.Backward(l.layers) {
		if !layer.unread() {
			layer.prune(ctx)
		}
	}
	l.count.found(l.layers)
	if !l.unsettled() {
		l.count.synced(l.attempt)
		l.attempt = time.Time{}
	}
}

// trouble returns why the kernel is not as wanted, or nil.
func (l *Loop) trouble() error {
	var errs []error
	for _, layer := range l.layers {
		errs = append(errs, layer.trouble())
	}
	return errors.Join(errs...)
}

func sorted(names map[plan.Name]struct{}) []plan.Name {
	out := make([]plan.Name, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	slices.SortFunc(out, plan.Name.Compare)
	return out
}
