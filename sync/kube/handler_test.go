package kube

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"kube-ipvs/sync/object"

	"kube-ipvs/sync/source/sourcetest"
)

var errUnavailable = errors.New("unavailable")

// opened returns a source that notifies, but does not run.
func opened() (*Source, sourcetest.Recorder) {
	calls := sourcetest.NewRecorder()
	s := New(Config{Client: fake.NewClientset(), NodeName: "n1", Problems: calls.Problems}, calls)
	s.gate.open(calls.Synced)
	return s, calls
}

func TestUnseenDeletes(t *testing.T) {
	for name, c := range map[string]struct {
		gone any
		kind string
		want []string
	}{
		"service":                {object.CacheService(service("api")), "service", []string{"default/api"}},
		"slice":                  {object.CacheSlice(slice("api-1", "api")), "slice", []string{"default/api"}},
		"headless service":       {object.CacheService(&corev1.Service{ObjectMeta: service("api").ObjectMeta}), "service", []string{"default/api"}},
		"orphan slice":           {object.CacheSlice(slice("lost", "")), "slice", []string{"problems"}},
		"service without a clue": {nil, "service", []string{"default/web"}},
		"slice without a clue":   {nil, "slice", []string{"default/web"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, calls := opened()
			if err := s.services.GetStore().Add(object.CacheService(service("web"))); err != nil {
				t.Fatal(err)
			}
			h := map[string]cache.ResourceEventHandler{"service": onChange(s.serviceChanged), "slice": onChange(s.sliceChanged)}[c.kind]
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "default/api", Obj: c.gone})
			calls.Next(t, append([]string{"synced"}, c.want...)...)
			calls.Nothing(t, 0)
		})
	}
}

// TestTransforms calls transforms again on their own results, as watch lists do.
func TestTransforms(t *testing.T) {
	for name, c := range map[string]struct {
		transform cache.TransformFunc
		in        any
	}{
		"service": {transformService, service("web")},
		"slice":   {transformSlice, slice("web-1", "web", "10.1.0.1")},
		"node":    {transformNode, node("a")},
		"cidr":    {transformCIDR, serviceCIDR("kubernetes", "10.96.0.0/12")},
	} {
		t.Run(name, func(t *testing.T) {
			once, err := c.transform(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if once == c.in {
				t.Fatal("not reduced")
			}
			if twice, err := c.transform(once); err != nil || twice != once {
				t.Errorf("%v, then %v (%v)", once, twice, err)
			}
			key, err := cache.MetaNamespaceKeyFunc(once)
			want, _ := cache.MetaNamespaceKeyFunc(c.in)
			if err != nil || key != want {
				t.Errorf("key %q (%v), want %q", key, err, want)
			}
			unseen := cache.DeletedFinalStateUnknown{Key: key, Obj: once}
			if got, err := c.transform(unseen); err != nil || got != any(unseen) {
				t.Errorf("got %v (%v)", got, err)
			}
		})
	}
}

func TestGateDropsUntilOpen(t *testing.T) {
	var g gate
	var calls []string
	call := func(s string) func() { return func() { calls = append(calls, s) } }
	g.pass(call("early"))
	g.open(call("first"))
	g.pass(call("second"))
	if want := []string{"first", "second"}; !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}
