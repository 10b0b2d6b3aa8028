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

// Registrations say when a handler was told all that existed at the start.
type registrations struct {
	services, slices, nodes, cidrs cache.ResourceEventHandlerRegistration
}

// register hangs transforms and handlers on the informers.
func (s *Source) register() (r registrations, err error) {
	add := func(informer cache.SharedIndexInformer, transform cache.TransformFunc,
		handler cache.ResourceEventHandler) cache.ResourceEventHandlerRegistration {
		reg, e := informer.AddEventHandler(handler)
		err = errors.Join(err, e, informer.SetTransform(transform))
		return reg
	}
	r.services = add(s.services, transformService, handler(s.serviceChanged))
	r.slices = add(s.slices, transformSlice, handler(s.sliceChanged))
	r.nodes = add(s.nodes, transformNode, handler(s.nodeChanged))
	r.cidrs = add(s.cidrs, transformCIDR, handler(s.cidrChanged))
	return r, errors.Join(err, s.cidrs.SetWatchErrorHandlerWithContext(s.cidrsUnreadable))
}

// handler calls changed with an object's old and new state. One of them is nil for an object that came or went, and both
// for one that went unseen and of which nothing is known any more.
func handler[T any](changed func(old, now *object.Cached[T])) cache.ResourceEventHandler {
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
		s.mark(plan.Name{Namespace: now.Namespace, Name: now.Name})
	case old != nil:
		s.mark(plan.Name{Namespace: old.Namespace, Name: old.Name})
	default:
		s.markAll()
	}
}

func (s *Source) sliceChanged(old, now *object.Cached[plan.Slice]) {
	switch {
	case old == nil && now == nil:
		s.markAll()
		return
	case old != nil && now != nil && old.Used == now.Used && object.SameSlice(old.Value, now.Value):
		return
	}
	names := append(owner(old), owner(now)...)
	s.mark(slices.Compact(names)...)
	if !slices.Equal(orphan(old), orphan(now)) {
		s.gate.pass(s.sink.ProblemsChanged)
	}
}

// owner returns the Service of a slice, if it is to be served.
func owner(c *object.Cached[plan.Slice]) []plan.Name {
	if c == nil || !c.Used {
		return nil
	}
	return []plan.Name{c.Value.Service}
}

// orphan returns the problems of a slice that has no Service to carry them.
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
		s.nodeSeen.give()
	}
	problems := func(n object.Node) []plan.Problem { return n.Problems }
	s.surroundingsChanged(!slices.Equal(valueOf(old, problems), valueOf(now, problems)))
}

func (s *Source) cidrChanged(old, now *object.Cached[object.CIDRs]) {
	if old != nil && now != nil && object.SameCIDRs(old.Value, now.Value) {
		return
	}
	problems := func(c object.CIDRs) []plan.Problem { return c.Problems }
	s.surroundingsChanged(!slices.Equal(valueOf(old, problems), valueOf(now, problems)))
}

// valueOf returns a part of an object's value, or the zero value if there is no object.
func valueOf[T, V any](c *object.Cached[T], part func(T) V) (v V) {
	if c != nil {
		v = part(c.Value)
	}
	return v
}

// surroundingsChanged tells the sink about the node and what is around it.
func (s *Source) surroundingsChanged(problems bool) {
	s.gate.pass(s.sink.NodeChanged)
	if problems {
		s.gate.pass(s.sink.ProblemsChanged)
	}
}

// cidrsUnreadable is told why ServiceCIDRs cannot be read. An API server that has none, or does not show them, is no
// reason to wait; the informer goes on trying, with back-off, in case that changes.
func (s *Source) cidrsUnreadable(ctx context.Context, r *cache.Reflector, err error) {
	if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		cache.DefaultWatchErrorHandler(ctx, r, err)
		return
	}
	if s.noCIDRs.give() {
		klog.FromContext(ctx).Info("ServiceCIDRs cannot be read; going on without the ranges of cluster IPs", "reason", err)
	}
}

// mark tells the sink about Services.
func (s *Source) mark(names ...plan.Name) {
	for _, name := range names {
		s.gate.pass(func() { s.sink.ServiceChanged(name) })
	}
}

// markAll tells the sink about every Service, after something went that cannot be named.
func (s *Source) markAll() { s.mark(s.Names()...) }
