package kube

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// registrations report when the handlers have seen the initial objects.
type registrations struct {
	services, slices, nodes, cidrs cache.ResourceEventHandlerRegistration
}

// register adds transforms and handlers to the informers.
func (s *Source) register() (r registrations, err error) {
	add := func(informer cache.SharedIndexInformer, transform cache.TransformFunc,
		handler cache.ResourceEventHandler) cache.ResourceEventHandlerRegistration {
		reg, e := informer.AddEventHandler(handler)
		err = errors.Join(err, e, informer.SetTransform(transform))
		return reg
	}
	r.services = add(s.services, transformService, onChange(s.serviceChanged))
	r.slices = add(s.slices, transformSlice, onChange(s.sliceChanged))
	r.nodes = add(s.nodes, transformNode, onChange(s.nodeChanged))
	r.cidrs = add(s.cidrs, transformCIDR, onChange(s.cidrChanged))
	return r, errors.Join(err, s.cidrs.SetWatchErrorHandlerWithContext(s.cidrsUnreadable))
}

// onChange calls changed with an object's old and new state: old is nil for an addition, now for a removal. Both are nil
// after a removal that the informer missed and of which it knows no last state.
func onChange[T any](changed func(old, now *object.Cached[T])) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(nil, obj.(*object.Cached[T])) },
		UpdateFunc: func(old, now any) { changed(old.(*object.Cached[T]), now.(*object.Cached[T])) },
		DeleteFunc: func(obj any) {
			if unseen, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unseen.Obj
			}
			old, _ := obj.(*object.Cached[T])
			changed(old, nil)
		},
	}
}

func (s *Source) serviceChanged(old, now *object.Cached[plan.Service]) {
	switch {
	case old != nil && now != nil && old.Used == now.Used && object.SameService(old.Value, now.Value):
	case now != nil:
		s.notify(plan.Name{Namespace: now.Namespace, Name: now.Name})
	case old != nil:
		s.notify(plan.Name{Namespace: old.Namespace, Name: old.Name})
	default:
		s.notifyAll()
	}
}

func (s *Source) sliceChanged(old, now *object.Cached[plan.Slice]) {
	switch {
	case old == nil && now == nil:
		s.notifyAll()
		return
	case old != nil && now != nil && old.Used == now.Used && object.SameSlice(old.Value, now.Value):
		return
	}
	for _, name := range slices.Compact(append(owner(old), owner(now)...)) {
		s.gate.pass(func() { s.handler.EndpointsChanged(name) })
	}
	if !slices.Equal(orphan(old), orphan(now)) {
		s.gate.pass(func() { s.cfg.Problems(s.Problems()) })
	}
}

// owner returns the Service of a slice, if it is served.
func owner(c *object.Cached[plan.Slice]) []plan.Name {
	if c == nil || !c.Used {
		return nil
	}
	return []plan.Name{c.Value.Service}
}

// orphan returns the problems of a slice without a Service to carry them.
func orphan(c *object.Cached[plan.Slice]) []plan.Problem {
	if c == nil || c.Used {
		return nil
	}
	return c.Value.Problems
}

func (s *Source) nodeChanged(old, now *object.Cached[object.Node]) {
	if old != nil && now != nil && object.SameNode(old.Value, now.Value) {
		return
	}
	if now != nil && now.Name == s.cfg.NodeName {
		s.nodeSeen.set()
	}
	problems := func(n object.Node) []plan.Problem { return n.Problems }
	s.notifyNode(!slices.Equal(valueOf(old, problems), valueOf(now, problems)))
}

func (s *Source) cidrChanged(old, now *object.Cached[object.CIDRs]) {
	if old != nil && now != nil && object.SameCIDRs(old.Value, now.Value) {
		return
	}
	problems := func(c object.CIDRs) []plan.Problem { return c.Problems }
	s.notifyNode(!slices.Equal(valueOf(old, problems), valueOf(now, problems)))
}

// valueOf returns a part of an object's value, or the zero value without an object.
func valueOf[T, V any](c *object.Cached[T], part func(T) V) (v V) {
	if c != nil {
		v = part(c.Value)
	}
	return v
}

// notifyNode notifies the handler of a change of the node or of the service CIDRs, and of their problems.
func (s *Source) notifyNode(problems bool) {
	s.gate.pass(s.handler.NodeChanged)
	if problems {
		s.gate.pass(func() { s.cfg.Problems(s.Problems()) })
	}
}

// cidrsUnreadable handles errors of reading ServiceCIDRs. An API server that lacks or hides them is no reason to wait;
// the informer retries with back-off in case that changes.
func (s *Source) cidrsUnreadable(ctx context.Context, r *cache.Reflector, err error) {
	if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		cache.DefaultWatchErrorHandler(ctx, r, err)
		return
	}
	if s.noCIDRs.set() {
		klog.FromContext(ctx).Info("Cannot read ServiceCIDRs; continuing without the ranges of cluster IPs", "reason", err)
	}
}

// notify notifies the handler of changes of Services.
func (s *Source) notify(names ...plan.Name) {
	for _, name := range names {
		s.gate.pass(func() { s.handler.ServiceChanged(name) })
	}
}

// notifyAll notifies the handler of every Service, after the removal of an unknown object.
func (s *Source) notifyAll() { s.notify(s.Names()...) }
