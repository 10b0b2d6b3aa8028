package object

import (
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kube-ipvs/sync/plan"
)

// A Cached is an object as a watch caches it, a tenth of its size in the API. It is a metav1.Object because informers
// require one.
type Cached[T any] struct {
	metav1.ObjectMeta // namespace, name, UID, resource version and creation time only

	Value T
	Used  bool // false: the proxy ignores the object, and Value holds at most its problems

	strings pool
}

// CacheService reduces a Service.
func CacheService(svc *corev1.Service) *Cached[plan.Service] {
	c := cached[plan.Service](&svc.ObjectMeta)
	c.Value, c.Used = service(svc, &c.strings)
	if c.Used { // one copy of each string is enough
		c.Name, c.Value.UID = c.Value.Name.Name, string(c.UID)
	}
	return c.seal()
}

// CacheSlice reduces an EndpointSlice.
func CacheSlice(es *discoveryv1.EndpointSlice) *Cached[plan.Slice] {
	c := cached[plan.Slice](&es.ObjectMeta)
	c.Value, c.Used = slice(es, &c.strings)
	if c.Used { // one copy of the string is enough
		c.Name = c.Value.Name
	}
	return c.seal()
}

// CacheNode reduces a Node.
func CacheNode(n *corev1.Node) *Cached[Node] {
	c := cached[Node](&n.ObjectMeta)
	c.Value, c.Used = node(n, &c.strings), true
	return c.seal()
}

// CacheServiceCIDR reduces a ServiceCIDR.
func CacheServiceCIDR(sc *networkingv1.ServiceCIDR) *Cached[CIDRs] {
	c := cached[CIDRs](&sc.ObjectMeta)
	c.Value, c.Used = ServiceCIDR(sc), true
	return c.seal()
}

func cached[T any](m *metav1.ObjectMeta) *Cached[T] {
	c := new(Cached[T])
	c.ObjectMeta = metav1.ObjectMeta{
		Namespace:         c.strings.intern(m.Namespace),
		Name:              strings.Clone(m.Name),
		UID:               types.UID(strings.Clone(string(m.UID))),
		ResourceVersion:   strings.Clone(m.ResourceVersion),
		CreationTimestamp: m.CreationTimestamp,
	}
	return c
}

// seal frees spare capacity.
func (c *Cached[T]) seal() *Cached[T] {
	c.strings.handles.seal()
	return c
}

// exact returns the list in an array of exactly its length; nil for an empty one.
func exact[T any](list []T) []T {
	switch {
	case len(list) == 0:
		return nil
	case len(list) == cap(list):
		return list
	}
	return append(make([]T, 0, len(list)), list...)
}

// SameService reports whether two states of a Service are equal in every field that the proxy reads.
func SameService(a, b plan.Service) bool { return reflect.DeepEqual(a, b) }

// SameSlice reports whether two states of an EndpointSlice are equal, regardless of the time of the change that led to
// them.
func SameSlice(a, b plan.Slice) bool {
	a.Triggered, b.Triggered = time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}

// SameNode reports whether two states of a Node are equal in every field that the proxy reads.
func SameNode(a, b Node) bool { return reflect.DeepEqual(a, b) }

// SameCIDRs reports whether two states of a ServiceCIDR hold the same ranges and problems, in the same order.
func SameCIDRs(a, b CIDRs) bool {
	return slices.Equal(a.Prefixes, b.Prefixes) && slices.Equal(a.Problems, b.Problems)
}
