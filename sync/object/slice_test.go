package object_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// sliceOf returns a slice of web with a port and endpoints.
func sliceOf(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](8080)}},
		Endpoints:   endpoints,
	}
}

// at returns an endpoint at addresses.
func at(addresses ...string) discoveryv1.Endpoint { return discoveryv1.Endpoint{Addresses: addresses} }

// ready returns the plan's input for an endpoint without conditions.
func ready(addr string) plan.Endpoint {
	return plan.Endpoint{Addr: addrs(addr)[0], Ready: true, Serving: true}
}

func plannedSlice(endpoints ...plan.Endpoint) plan.Slice {
	return plan.Slice{
		Name:      "web-1",
		Service:   plan.Name{Namespace: "default", Name: "web"},
		Family:    inet.IPv4,
		Ports:     []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}},
		Endpoints: endpoints,
	}
}

func wrongSlice(field, reason string) plan.Problem {
	return plan.Problem{Object: "EndpointSlice default/web-1", Field: field, Reason: reason}
}

func oddSlice(field, reason string) plan.Problem {
	p := wrongSlice(field, reason)
	p.Note = true
	return p
}

func checkSlice(t *testing.T, in *discoveryv1.EndpointSlice, want plan.Slice) {
	t.Helper()
	before := in.DeepCopy()
	got, ok := object.Slice(in)
	if !ok {
		t.Error("serves nobody")
	}
	if diff := cmp.Diff(want, got, values); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff(before, in); diff != "" {
		t.Errorf("changed its input\n%s", diff)
	}
}

func TestSliceThatServesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*discoveryv1.EndpointSlice)
		want []plan.Problem
	}{
		"host names": {func(es *discoveryv1.EndpointSlice) { es.AddressType = discoveryv1.AddressTypeFQDN }, nil},
		"unknown addresses": {func(es *discoveryv1.EndpointSlice) { es.AddressType = "IPX" },
			[]plan.Problem{wrongSlice("addressType", `"IPX" is not a type of address (IPv4, IPv6)`)}},
		"no service": {func(es *discoveryv1.EndpointSlice) { es.Labels = nil },
			[]plan.Problem{wrongSlice("metadata.labels", "has no kubernetes.io/service-name, so it belongs to no Service")}},
	} {
		t.Run(name, func(t *testing.T) {
			es := sliceOf(at("10.1.0.1"))
			c.edit(es)
			got, ok := object.Slice(es)
			if diff := cmp.Diff(plan.Slice{Problems: c.want}, got, values); diff != "" || ok {
				t.Errorf("ok %v, -want +got\n%s", ok, diff)
			}
		})
	}
}

func TestSliceEndpoints(t *testing.T) {
	conditions := func(ready, serving, terminating *bool) discoveryv1.Endpoint {
		e := at("10.1.0.1")
		e.Conditions = discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
		return e
	}
	is := func(ready, serving, terminating bool) plan.Endpoint {
		return plan.Endpoint{Addr: addrs("10.1.0.1")[0], Ready: ready, Serving: serving, Terminating: terminating}
	}
	yes, no := ptr.To(true), ptr.To(false)
	for _, c := range []struct {
		name     string
		in       []discoveryv1.Endpoint
		want     []plan.Endpoint
		problems []plan.Problem
	}{
		{"none", nil, nil, nil},
		{"no conditions mean ready", []discoveryv1.Endpoint{at("10.1.0.1")}, []plan.Endpoint{is(true, true, false)}, nil},
		{"not ready", []discoveryv1.Endpoint{conditions(no, nil, nil)}, []plan.Endpoint{is(false, true, false)}, nil},
		{"terminating and serving", []discoveryv1.Endpoint{conditions(no, yes, yes)}, []plan.Endpoint{is(false, true, true)}, nil},
		{"terminating and silent", []discoveryv1.Endpoint{conditions(no, no, yes)}, []plan.Endpoint{is(false, false, true)}, nil},
		{"the first address only, and none is none", []discoveryv1.Endpoint{at("10.1.0.1", "10.1.0.2"), at()},
			[]plan.Endpoint{ready("10.1.0.1")}, nil},
		{"in the order of addresses", []discoveryv1.Endpoint{at("10.1.0.10"), at("10.1.0.9")},
			[]plan.Endpoint{ready("10.1.0.9"), ready("10.1.0.10")}, nil},
		{"copies are kept in their order", []discoveryv1.Endpoint{conditions(no, yes, yes), at("10.1.0.1")},
			[]plan.Endpoint{is(false, true, true), is(true, true, false)}, nil},
		{"leading zeros", []discoveryv1.Endpoint{at("10.001.0.1")}, []plan.Endpoint{ready("10.1.0.1")},
			[]plan.Problem{oddSlice("endpoints[0].addresses[0]", `"10.001.0.1" has leading zeros; it is read as 10.1.0.1`)}},
		{"addresses that cannot serve",
			[]discoveryv1.Endpoint{at("127.0.0.1"), at("169.254.169.254"), at("0.0.0.0"), at("224.0.0.1"), at("fd00::1"),
				at("255.255.255.255"), at("web"), at("10.1.0.1")},
			[]plan.Endpoint{ready("10.1.0.1")},
			[]plan.Problem{
				wrongSlice("endpoints[0].addresses[0]", "127.0.0.1 is a loopback address, which cannot serve"),
				wrongSlice("endpoints[1].addresses[0]", "169.254.169.254 is a link-local address, which cannot serve"),
				wrongSlice("endpoints[2].addresses[0]", "0.0.0.0 is the unspecified address, which cannot serve"),
				wrongSlice("endpoints[3].addresses[0]", "224.0.0.1 is a multicast address, which cannot serve"),
				wrongSlice("endpoints[4].addresses[0]", "fd00::1 is not an IPv4 address, as addressType says"),
				wrongSlice("endpoints[5].addresses[0]", "255.255.255.255 is the broadcast address, which cannot serve"),
				wrongSlice("endpoints[6].addresses[0]", `"web" is not an IP address`),
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := plannedSlice(c.want...)
			want.Problems = c.problems
			checkSlice(t, sliceOf(c.in...), want)
		})
	}
}

func TestSliceOfIPv6(t *testing.T) {
	es := sliceOf(at("fd00::1"), at("fe80::1"), at("10.1.0.1"), at("::ffff:10.1.0.1"))
	es.AddressType = discoveryv1.AddressTypeIPv6
	want := plannedSlice(ready("fd00::1"))
	want.Family = inet.IPv6
	want.Problems = []plan.Problem{
		wrongSlice("endpoints[1].addresses[0]", "fe80::1 is a link-local address, which cannot serve"),
		wrongSlice("endpoints[2].addresses[0]", "10.1.0.1 is not an IPv6 address, as addressType says"),
		oddSlice("endpoints[3].addresses[0]", `"::ffff:10.1.0.1" is an IPv4-mapped IPv6 address; it is read as 10.1.0.1`),
		wrongSlice("endpoints[3].addresses[0]", "10.1.0.1 is not an IPv6 address, as addressType says"),
	}
	checkSlice(t, es, want)
}

func TestSlicePlaces(t *testing.T) {
	es := sliceOf(at("10.1.0.1"), at("10.1.0.2"), at("10.1.0.3"))
	es.Endpoints[0].NodeName = ptr.To("n1")
	es.Endpoints[0].Hints = &discoveryv1.EndpointHints{
		ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}, ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}
	es.Endpoints[1].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}}
	es.Endpoints[2].Hints = &discoveryv1.EndpointHints{}

	one, two := ready("10.1.0.1"), ready("10.1.0.2")
	one.Node, one.ZoneHints, one.NodeHints = "n1", []string{"a", "b"}, []string{"n1"}
	two.ZoneHints = []string{"a", "b"}
	checkSlice(t, es, plannedSlice(one, two, ready("10.1.0.3")))

	got, _ := object.Slice(es)
	if &got.Endpoints[0].ZoneHints[0] != &got.Endpoints[1].ZoneHints[0] {
		t.Error("equal hints are held twice")
	}
}

// TestSliceCopies has so many copies of endpoints that an unstable sort would reorder them.
func TestSliceCopies(t *testing.T) {
	var in []discoveryv1.Endpoint
	want := map[string][]plan.Endpoint{}
	for i := range 100 {
		addr, node := fmt.Sprint("10.1.0.", i%3), fmt.Sprint("n", i)
		copied, wanted := at(addr), ready(addr)
		copied.NodeName, wanted.Node = &node, node
		in, want[addr] = append(in, copied), append(want[addr], wanted)
	}
	checkSlice(t, sliceOf(in...), plannedSlice(slices.Concat(want["10.1.0.0"], want["10.1.0.1"], want["10.1.0.2"])...))
}

func TestSlicePorts(t *testing.T) {
	port := func(name *string, proto *corev1.Protocol, number *int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: name, Protocol: proto, Port: number}
	}
	es := sliceOf(at("10.1.0.1"))
	es.Ports = []discoveryv1.EndpointPort{
		port(ptr.To("web"), nil, ptr.To[int32](8080)),
		port(ptr.To(""), ptr.To(corev1.ProtocolUDP), ptr.To[int32](53)),
		port(ptr.To("dns"), ptr.To(corev1.ProtocolUDP), ptr.To[int32](53)),
		port(ptr.To("dns"), ptr.To(corev1.ProtocolTCP), ptr.To[int32](53)),
		port(ptr.To("dns"), ptr.To(corev1.ProtocolTCP), ptr.To[int32](53)),
		port(nil, nil, ptr.To[int32](1)),
		port(ptr.To("all"), nil, nil),
		port(ptr.To("zero"), nil, ptr.To[int32](0)),
		port(ptr.To("minus"), nil, ptr.To[int32](-1)),
		port(ptr.To("icmp"), ptr.To(corev1.Protocol("ICMP")), ptr.To[int32](1)),
	}
	want := plannedSlice(ready("10.1.0.1"))
	want.Ports = []plan.SlicePort{{Name: "", Proto: inet.UDP, Port: 53}, {Name: "dns", Proto: inet.TCP, Port: 53},
		{Name: "dns", Proto: inet.UDP, Port: 53}, {Name: "web", Proto: inet.TCP, Port: 8080}}
	want.Problems = []plan.Problem{
		wrongSlice("ports[8].port", "-1 is not a port number (1 to 65535)"),
		wrongSlice("ports[9].protocol", `"ICMP" is not a protocol that can be served (TCP, UDP, SCTP)`),
	}
	checkSlice(t, es, want)
}

func TestSliceTriggered(t *testing.T) {
	annotated := func(value string) *discoveryv1.EndpointSlice {
		es := sliceOf(at("10.1.0.1"))
		es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: value}
		return es
	}
	want := plannedSlice(ready("10.1.0.1"))
	want.Triggered = time.Date(2026, 11, 1, 11, 0, 0, 5e8, time.UTC)
	checkSlice(t, annotated("2026-11-01T12:00:00.5+01:00"), want)

	want = plannedSlice(ready("10.1.0.1"))
	want.Problems = []plan.Problem{oddSlice(
		"metadata.annotations[endpoints.kubernetes.io/last-change-trigger-time]", `"yesterday" is not a time`)}
	checkSlice(t, annotated("yesterday"), want)
}

func TestSameSlice(t *testing.T) {
	base := func() *discoveryv1.EndpointSlice {
		es := sliceOf(at("10.1.0.1"), at("10.1.0.2"))
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: ptr.To("dns"), Port: ptr.To[int32](53)})
		return es
	}
	for _, c := range []struct {
		name string
		edit func(*discoveryv1.EndpointSlice)
		want bool
	}{
		{"nothing", func(*discoveryv1.EndpointSlice) {}, true},
		{"resource version", func(es *discoveryv1.EndpointSlice) { es.ResourceVersion = "2" }, true},
		{"trigger time", func(es *discoveryv1.EndpointSlice) {
			es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-11-01T12:00:00Z"}
		}, true},
		{"ports in another order", func(es *discoveryv1.EndpointSlice) { es.Ports[0], es.Ports[1] = es.Ports[1], es.Ports[0] }, true},
		{"endpoints in another order", func(es *discoveryv1.EndpointSlice) {
			es.Endpoints[0], es.Endpoints[1] = es.Endpoints[1], es.Endpoints[0]
		}, true},
		{"conditions spelt out", func(es *discoveryv1.EndpointSlice) { es.Endpoints[0].Conditions.Ready = ptr.To(true) }, true},
		{"port removed", func(es *discoveryv1.EndpointSlice) { es.Ports = es.Ports[:1] }, false},
		{"port added", func(es *discoveryv1.EndpointSlice) {
			es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: ptr.To("x"), Port: ptr.To[int32](1)})
		}, false},
		{"port renumbered", func(es *discoveryv1.EndpointSlice) { es.Ports[0].Port = ptr.To[int32](8081) }, false},
		{"port renamed", func(es *discoveryv1.EndpointSlice) { es.Ports[0].Name = ptr.To("https") }, false},
		{"endpoint added", func(es *discoveryv1.EndpointSlice) { es.Endpoints = append(es.Endpoints, at("10.1.0.3")) }, false},
		{"endpoint removed", func(es *discoveryv1.EndpointSlice) { es.Endpoints = es.Endpoints[:1] }, false},
		{"no longer ready", func(es *discoveryv1.EndpointSlice) { es.Endpoints[0].Conditions.Ready = ptr.To(false) }, false},
		{"terminating", func(es *discoveryv1.EndpointSlice) { es.Endpoints[0].Conditions.Terminating = ptr.To(true) }, false},
		{"moved to another node", func(es *discoveryv1.EndpointSlice) { es.Endpoints[0].NodeName = ptr.To("n2") }, false},
		{"hinted", func(es *discoveryv1.EndpointSlice) {
			es.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		}, false},
		{"another Service's", func(es *discoveryv1.EndpointSlice) { es.Labels[discoveryv1.LabelServiceName] = "api" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			edited := base()
			c.edit(edited)
			before, _ := object.Slice(base())
			after, _ := object.Slice(edited)
			if got := object.SameSlice(before, after); got != c.want {
				t.Errorf("same: %v", got)
			}
		})
	}
}
