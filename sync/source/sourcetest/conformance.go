package sourcetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// An Object is a Service with its slices.
type Object struct {
	Service *corev1.Service
	Slices  []*discoveryv1.EndpointSlice
}

// A Subject is a running source and the means to change its content.
type Subject struct {
	Source source.Services
	Put    func(Object)    // adds or replaces a Service and all of its slices
	Remove func(plan.Name) // removes a Service and its slices
}

// Test checks that a source keeps the contract of package source. Open starts one with this content, for a Handler.
func Test(t *testing.T, open func(t *testing.T, content []Object, h source.Handler) Subject) {
	one, two := newObject("one", "10.96.0.1"), newObject("two", "10.96.0.2", "10.1.0.1")
	t.Run("synced comes first, and all content is there", func(t *testing.T) {
		s := start(t, open, one, two)
		s.holds(t, one, two)
	})
	t.Run("an empty source syncs", func(t *testing.T) {
		s := start(t, open)
		s.holds(t)
	})
	t.Run("additions are notified", func(t *testing.T) {
		s := start(t, open, one)
		s.Put(two)
		s.await(t, two)
		s.holds(t, one, two)
	})
	t.Run("changes of slices are notified", func(t *testing.T) {
		s := start(t, open, one, two)
		changed := newObject("two", "10.96.0.2", "10.1.0.1", "10.1.0.2")
		s.Put(changed)
		s.await(t, changed)
		s.Put(two)
		s.await(t, two)
		s.holds(t, one, two)
	})
	t.Run("changes of a Service are notified", func(t *testing.T) {
		s := start(t, open, one, two)
		changed := newObject("two", "10.96.0.3", "10.1.0.1")
		s.Put(changed)
		s.await(t, changed)
		s.holds(t, one, changed)
	})
	t.Run("removals are notified", func(t *testing.T) {
		s := start(t, open, one, two)
		s.Remove(nameOf(two))
		s.awaitGone(t, two)
		s.holds(t, one)
	})
	t.Run("a Service that becomes headless is none to serve", func(t *testing.T) {
		s := start(t, open, one, two)
		headless := newObject("two", corev1.ClusterIPNone)
		s.Put(headless)
		s.awaitGone(t, headless)
		s.holds(t, one)
	})
	t.Run("slices are in the order of their names", func(t *testing.T) {
		s := start(t, open)
		many := newObject("many", "10.96.0.4", "10.1.0.3", "10.1.0.2", "10.1.0.1")
		slices.Reverse(many.Slices)
		s.Put(many)
		s.await(t, many)
	})
}

// A subject is a Subject with the calls of its Handler.
type subject struct {
	Subject
	calls Recorder
}

// start opens a source and waits until it is synced.
func start(t *testing.T, open func(*testing.T, []Object, source.Handler) Subject, content ...Object) *subject {
	t.Helper()
	s := &subject{calls: NewRecorder()}
	s.Subject = open(t, content, s.calls)
	s.calls.Next(t, "synced")
	return s
}

// holds demands that these Services are all that the source has.
func (s *subject) holds(t *testing.T, want ...Object) {
	t.Helper()
	names := []string{}
	for _, o := range want {
		names = append(names, nameOf(o).String())
		if diff := s.diff(o); diff != "" {
			t.Errorf("%v (-want +got):\n%s", nameOf(o), diff)
		}
	}
	got := []string{}
	for _, name := range s.Source.Names() {
		got = append(got, name.String())
	}
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// diff compares a Service and its slices with the source's.
func (s *subject) diff(want Object) string {
	svc, served := object.Service(want.Service)
	var list []plan.Slice
	sorted := slices.SortedFunc(slices.Values(want.Slices), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	for _, es := range sorted {
		slice, _ := object.Slice(es)
		list = append(list, slice)
	}
	got, gotSlices, found := s.Source.Service(nameOf(want))
	switch {
	case found != served:
		return fmt.Sprintf("- served: %t\n+ served: %t", served, found)
	case !object.SameService(svc, got):
		return fmt.Sprintf("- %+v\n+ %+v", svc, got)
	case !slices.EqualFunc(list, gotSlices, object.SameSlice):
		return fmt.Sprintf("- %+v\n+ %+v", list, gotSlices)
	}
	return ""
}

// await waits for the notification after which the source has this state.
func (s *subject) await(t *testing.T, want Object) {
	t.Helper()
	s.until(t, want, func() string { return s.diff(want) })
}

// awaitGone waits for the notification after which the source has no such Service.
func (s *subject) awaitGone(t *testing.T, o Object) {
	t.Helper()
	s.until(t, o, func() string {
		if _, _, found := s.Source.Service(nameOf(o)); found {
			return "is there"
		}
		return ""
	})
}

// until reads notifications on one Service until the state is the desired one.
func (s *subject) until(t *testing.T, o Object, differs func() string) {
	t.Helper()
	late, diff := time.After(timeout), "no notification"
	for {
		select {
		case got := <-s.calls:
			if want := nameOf(o).String(); got != want {
				t.Fatalf("call %q, want %q", got, want)
			}
			if diff = differs(); diff == "" {
				return
			}
		case <-late:
			t.Fatalf("%v: not notified in time (-want +got):\n%s", nameOf(o), diff)
		}
	}
}

func nameOf(o Object) plan.Name {
	return plan.Name{Namespace: o.Service.Namespace, Name: o.Service.Name}
}

// newObject returns a Service of one port with a slice for each endpoint.
func newObject(name, clusterIP string, endpoints ...string) Object {
	internal := corev1.ServiceInternalTrafficPolicyCluster
	port, number, protocol := "http", int32(8080), corev1.ProtocolTCP
	yes, no := true, false
	o := Object{Service: &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}, SessionAffinity: corev1.ServiceAffinityNone,
			InternalTrafficPolicy: &internal, Ports: []corev1.ServicePort{{Name: port, Port: 80, Protocol: protocol}},
		},
	}}
	for i, address := range endpoints {
		o.Slices = append(o.Slices, &discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-" + string(rune('a'+i)),
				Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &port, Port: &number, Protocol: &protocol}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address},
				Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}}},
		})
	}
	return o
}
