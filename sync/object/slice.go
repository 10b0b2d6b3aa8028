package object

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// Slice reduces an EndpointSlice. Its lists are sorted, so slices that differ only in order are equal. It reports false
// for a slice without a Service or with host names; the returned value then holds at most the problems.
func Slice(es *discoveryv1.EndpointSlice) (plan.Slice, bool) {
	return slice(es, &pool{})
}

func slice(es *discoveryv1.EndpointSlice, p *pool) (plan.Slice, bool) {
	r := newReader("EndpointSlice", es.Namespace, es.Name)
	if !r.serves(es) {
		return plan.Slice{Problems: exact(r.problems)}, false
	}
	out := plan.Slice{
		Name:      strings.Clone(es.Name),
		Service:   plan.Name{Namespace: p.intern(es.Namespace), Name: p.intern(es.Labels[discoveryv1.LabelServiceName])},
		Family:    familyOf(es.AddressType),
		Ports:     r.slicePorts(es, p),
		Endpoints: r.endpoints(es, p),
		Triggered: r.triggered(es),
	}
	out.Problems = exact(r.problems)
	return out, true
}

func familyOf(t discoveryv1.AddressType) inet.Family {
	if t == discoveryv1.AddressTypeIPv6 {
		return inet.IPv6
	}
	return inet.IPv4
}

// serves reports whether the slice has a Service and addresses.
func (r *reader) serves(es *discoveryv1.EndpointSlice) bool {
	switch es.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	case discoveryv1.AddressTypeFQDN:
		return false
	default:
		r.add("addressType", "%q is not a type of address (IPv4, IPv6)", es.AddressType)
		return false
	}
	if es.Labels[discoveryv1.LabelServiceName] == "" {
		r.add("metadata.labels", "has no %s, so it belongs to no Service", discoveryv1.LabelServiceName)
		return false
	}
	return true
}

// triggered reads the time of the change that led to the slice.
func (r *reader) triggered(es *discoveryv1.EndpointSlice) time.Time {
	s, ok := es.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		r.note("metadata.annotations["+corev1.EndpointsLastChangeTriggerTime+"]", "%q is not a time", s)
		return time.Time{}
	}
	return t.UTC()
}

// slicePorts leaves out, silently, ports without a name or number: the API allows them, and to a proxy they have no
// meaning.
func (r *reader) slicePorts(es *discoveryv1.EndpointSlice, p *pool) []plan.SlicePort {
	out := make([]plan.SlicePort, 0, len(es.Ports))
	for i := range es.Ports {
		in := &es.Ports[i]
		if in.Name == nil || in.Port == nil || *in.Port == 0 {
			continue
		}
		if port, ok := r.slicePort(fmt.Sprintf("ports[%d]", i), in); ok {
			port.Name = p.intern(*in.Name)
			out = append(out, port)
		}
	}
	slices.SortFunc(out, func(a, b plan.SlicePort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	return exact(slices.Compact(out))
}

func (r *reader) slicePort(field string, in *discoveryv1.EndpointPort) (plan.SlicePort, bool) {
	var name corev1.Protocol
	if in.Protocol != nil {
		name = *in.Protocol
	}
	proto, known := protocol(name)
	if !known {
		r.add(field+".protocol", "%q is not a protocol that can be served (TCP, UDP, SCTP)", name)
	}
	n, valid := r.portNumber(field+".port", *in.Port)
	return plan.SlicePort{Proto: proto, Port: n}, known && valid
}

// endpoints returns the endpoints sorted by address. Duplicates stay, in their order.
func (r *reader) endpoints(es *discoveryv1.EndpointSlice, p *pool) []plan.Endpoint {
	out := make([]plan.Endpoint, 0, len(es.Endpoints))
	var hints listPool
	for i := range es.Endpoints {
		in := &es.Endpoints[i]
		if len(in.Addresses) == 0 {
			continue
		}
		// The addresses of an endpoint are interchangeable, and the API requires that only the first is used.
		a, ok := r.endpointAddr(fmt.Sprintf("endpoints[%d].addresses[0]", i), in.Addresses[0], es.AddressType)
		if ok {
			out = append(out, endpoint(a, in, p, &hints))
		}
	}
	slices.SortStableFunc(out, func(a, b plan.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return exact(out)
}

func (r *reader) endpointAddr(field, s string, family discoveryv1.AddressType) (netip.Addr, bool) {
	a, ok := r.addr(field, s)
	if !ok {
		return a, false
	}
	if a.Is6() != (family == discoveryv1.AddressTypeIPv6) {
		r.add(field, "%v is not an %s address, as addressType says", a, family)
		return a, false
	}
	if why := reserved(a); why != "" {
		r.add(field, "%v is %s, which cannot serve", a, why)
		return a, false
	}
	return a, true
}

func endpoint(a netip.Addr, in *discoveryv1.Endpoint, p *pool, hints *listPool) plan.Endpoint {
	c := &in.Conditions
	out := plan.Endpoint{
		Addr:        a,
		Ready:       conditionOr(c.Ready, true),
		Serving:     conditionOr(c.Serving, true),
		Terminating: conditionOr(c.Terminating, false),
	}
	if in.NodeName != nil {
		out.Node = p.intern(*in.NodeName)
	}
	if in.Hints != nil {
		out.ZoneHints = hints.share(names(in.Hints.ForZones, func(z discoveryv1.ForZone) string { return p.intern(z.Name) }))
		out.NodeHints = hints.share(names(in.Hints.ForNodes, func(n discoveryv1.ForNode) string { return p.intern(n.Name) }))
	}
	return out
}

// names returns the names in a list of hints, or nil.
func names[T any](list []T, name func(T) string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

// conditionOr returns the value of a condition, or the default for an absent one.
func conditionOr(condition *bool, absent bool) bool {
	if condition == nil {
		return absent
	}
	return *condition
}
