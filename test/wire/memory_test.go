package wire

import (
	"cmp"
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/source/sourcetest"
)

// TestMemory holds the source of other tests to the contract of the product's.
func TestMemory(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T, content []sourcetest.Object, h source.Handler) sourcetest.Subject {
		m := NewMemory()
		m.changed = h.ServiceChanged
		for _, o := range content {
			if svc, list, ok := reduced(o); ok {
				m.Put(svc, list...)
			}
		}
		h.Synced()
		return sourcetest.Subject{
			Source: m,
			Put: func(o sourcetest.Object) {
				if svc, list, ok := reduced(o); ok {
					m.Set(svc, list...)
				} else {
					m.Remove(plan.Name{Namespace: o.Service.Namespace, Name: o.Service.Name})
				}
			},
			Remove: m.Remove,
		}
	})
}

func reduced(o sourcetest.Object) (svc plan.Service, list []plan.Slice, ok bool) {
	svc, ok = object.Service(o.Service)
	// The plan's slices have no names, so their order is the caller's.
	byName := func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }
	for _, es := range slices.SortedFunc(slices.Values(o.Slices), byName) {
		slice, _ := object.Slice(es)
		list = append(list, slice)
	}
	return svc, list, ok
}
