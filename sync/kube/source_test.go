package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// refuse makes every list of a resource fail while the switch is on.
func refuse(client *fake.Clientset, resource string, err error) *atomic.Bool {
	var on atomic.Bool
	on.Store(true)
	client.PrependReactor("list", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		return on.Load(), nil, err
	})
	return &on
}

func TestNothingBeforeAllIsRead(t *testing.T) {
	for _, resource := range []string{"services", "endpointslices", "nodes", "servicecidrs"} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(service("web"), slice("web-1", "web", "10.1.0.1"), node("a"),
				serviceCIDR("kubernetes", "10.96.0.0/12"))
			refused := refuse(client, resource, apierrors.NewInternalError(errUnavailable))
			s, calls := run(t, client)
			calls.Nothing(t, 300*time.Millisecond)
			if resource != "services" {
				c := cluster{t, client}
				c.create(service("api"))
				calls.Nothing(t, 300*time.Millisecond)
			}
			refused.Store(false)
			calls.Next(t, "synced")
			if _, slices, ok := s.Service(web); !ok || len(slices) != 1 || s.Node().Zone != "a" || len(s.ServiceCIDRs()) != 1 {
				t.Errorf("synced with %v %v, %+v, %v", slices, ok, s.Node(), s.ServiceCIDRs())
			}
		})
	}
}

func TestWithoutServiceCIDRs(t *testing.T) {
	resource := schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}
	for name, err := range map[string]error{
		"no such API":     apierrors.NewNotFound(resource, ""),
		"not for our eye": apierrors.NewForbidden(resource, "", nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset(service("web"), node("a"), serviceCIDR("kubernetes", "10.96.0.0/12"))
			refused := refuse(client, "servicecidrs", err)
			s, calls := synced(t, client)
			if got := s.ServiceCIDRs(); len(got) != 0 {
				t.Errorf("got %v", got)
			}
			refused.Store(false)
			calls.Next(t, "node")
			if got, want := s.ServiceCIDRs(), []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	client := fake.NewClientset(node("a"))
	synced(t, client)
	want := map[string][2]string{
		"services":       {"!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"},
		"endpointslices": {"!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name", ""},
		"nodes":          {"", "metadata.name=n1"},
		"servicecidrs":   {"", ""},
	}
	for _, action := range client.Actions() {
		var label, field string
		switch a := action.(type) {
		case clienttesting.ListActionImpl:
			label, field = a.ListRestrictions.Labels.String(), a.ListRestrictions.Fields.String()
		case clienttesting.WatchActionImpl:
			label, field = a.WatchRestrictions.Labels.String(), a.WatchRestrictions.Fields.String()
		default:
			t.Errorf("asked for %v", action)
		}
		if diff := cmp.Diff(want[action.GetResource().Resource], [2]string{label, field}); diff != "" {
			t.Errorf("%s %s: %s", action.GetVerb(), action.GetResource().Resource, diff)
		}
	}
}

func TestServiceChanges(t *testing.T) {
	client := fake.NewClientset(node("a"))
	s, calls := synced(t, client)
	c := cluster{t, client}

	svc := service("web")
	c.create(svc)
	calls.Next(t, "default/web")
	svc.ResourceVersion = "2"
	svc.Annotations = map[string]string{"note": "of no matter"}
	c.update(svc)
	svc.Spec.Ports[0].Port = 81
	c.update(svc)
	calls.Next(t, "default/web") // for the port only: the irrelevant change came first
	calls.Nothing(t, 50*time.Millisecond)
	got, _, _ := s.Service(web)
	if got.Ports[0].Port != 81 {
		t.Errorf("got %+v", got)
	}

	svc.Spec.ClusterIP = corev1.ClusterIPNone
	c.update(svc)
	calls.Next(t, "default/web")
	if got, _, ok := s.Service(web); ok || len(s.Names()) != 0 {
		t.Errorf("a headless Service is %+v among %v", got, s.Names())
	}
	svc.Spec.ClusterIP = "10.96.0.10"
	c.update(svc)
	calls.Next(t, "default/web")
	if want := []plan.Name{web}; !slices.Equal(want, s.Names()) {
		t.Errorf("names %v", s.Names())
	}
	c.remove("web")
	calls.Next(t, "default/web")
	if _, _, ok := s.Service(web); ok || len(s.Names()) != 0 {
		t.Error("still there")
	}
}

func TestSliceChanges(t *testing.T) {
	client := fake.NewClientset(node("a"), service("web"), service("api"))
	s, calls := synced(t, client)
	c := cluster{t, client}

	c.createSlice(slice("web-2", "web", "10.1.0.2"))
	calls.Next(t, "default/web")
	es := slice("web-1", "web", "10.1.0.1")
	c.createSlice(es)
	calls.Next(t, "default/web")
	if got := addresses(s, web); !slices.Equal(got, []string{"10.1.0.1", "10.1.0.2"}) {
		t.Errorf("slices are not in the order of their names: %v", got)
	}

	es.Endpoints[0].Addresses[0] = "10.1.0.3"
	c.updateSlice(es)
	calls.Next(t, "default/web")
	calls.Nothing(t, 50*time.Millisecond)

	es.ResourceVersion = "2"
	es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-11-01T12:00:00Z"}
	c.updateSlice(es)
	es.Labels["kubernetes.io/service-name"] = "api"
	c.updateSlice(es)
	calls.Next(t, "default/web", "default/api") // for the Service only: the trigger time came first
	calls.Nothing(t, 50*time.Millisecond)
	if web, api := addresses(s, web), addresses(s, plan.Name{Namespace: "default", Name: "api"}); len(web) != 1 || len(api) != 1 {
		t.Errorf("web has %v, api has %v", web, api)
	}
	c.removeSlice("web-1")
	calls.Next(t, "default/api")
}

// addresses returns the endpoints of a Service, slice by slice.
func addresses(s *Source, name plan.Name) (out []string) {
	_, list, _ := s.Service(name)
	for _, slice := range list {
		for _, e := range slice.Endpoints {
			out = append(out, e.Addr.String())
		}
	}
	return out
}

func TestOrphanSlice(t *testing.T) {
	client := fake.NewClientset(node("a"))
	s, calls := synced(t, client)
	c := cluster{t, client}
	es := slice("lost", "", "10.1.0.1")
	c.createSlice(es)
	calls.Next(t, "problems")
	want := []plan.Problem{{Object: "EndpointSlice default/lost", Field: "metadata.labels",
		Reason: "has no kubernetes.io/service-name, so it belongs to no Service"}}
	if diff := cmp.Diff(want, s.Problems()); diff != "" {
		t.Error(diff)
	}
	es.Labels["kubernetes.io/service-name"] = "web"
	c.updateSlice(es)
	calls.Next(t, "default/web", "problems")
	if got := s.Problems(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// Problems that are there at the start are reported: nothing else tells of a slice that belongs to no Service.
func TestProblemsAtTheStart(t *testing.T) {
	s, calls := synced(t, fake.NewClientset(node("a"), slice("lost", "", "10.1.0.1")))
	calls.Next(t, "problems")
	if got := s.Problems(); len(got) != 1 {
		t.Errorf("problems %v", got)
	}
}

// TestMissedDelete has a watch that breaks, and a Service and a slice that are removed before the next.
func TestMissedDelete(t *testing.T) {
	client := fake.NewClientset(node("a"), service("web"), slice("api-1", "api", "10.1.0.1"))
	broken := map[string]*watch.RaceFreeFakeWatcher{"services": watch.NewRaceFreeFake(), "endpointslices": watch.NewRaceFreeFake()}
	for resource, w := range broken {
		var second atomic.Bool
		client.PrependWatchReactor(resource, func(clienttesting.Action) (bool, watch.Interface, error) {
			return !second.Swap(true), w, nil
		})
	}
	_, calls := synced(t, client)
	c := cluster{t, client}
	c.remove("web")
	c.removeSlice("api-1")
	calls.Nothing(t, 50*time.Millisecond)
	expired := apierrors.NewResourceExpired("too old").Status()
	broken["services"].Error(&expired)
	calls.Next(t, "default/web")
	broken["endpointslices"].Error(&expired)
	calls.Next(t, "default/api")
}

func TestNodeChanges(t *testing.T) {
	client := fake.NewClientset(node("a"))
	s, calls := synced(t, client)
	c := cluster{t, client}

	n := node("a")
	n.ResourceVersion = "2"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	c.updateNode(n)
	calls.Nothing(t, 50*time.Millisecond)
	n.Labels[corev1.LabelTopologyZone] = "b"
	c.updateNode(n)
	calls.Next(t, "node")
	want := object.Node{Name: "n1", Zone: "b", Eligible: true}
	if diff := cmp.Diff(want, s.Node(), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "nowhere"}}
	c.updateNode(n)
	calls.Next(t, "node", "problems")
	c.done(client.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}))
	calls.Next(t, "node", "problems")
	if diff := cmp.Diff(object.Node{Name: "n1"}, s.Node()); diff != "" {
		t.Error(diff)
	}
}

func TestNodeIsAwaited(t *testing.T) {
	client := fake.NewClientset()
	_, calls := runWith(t, Config{Client: client, NodeName: "n1", NodeWait: time.Hour})
	calls.Nothing(t, 300*time.Millisecond)
	_, err := client.CoreV1().Nodes().Create(t.Context(), node("a"), metav1.CreateOptions{})
	cluster{t, client}.done(err)
	calls.Next(t, "synced")
}

func TestNodeMayBeMissing(t *testing.T) {
	client := fake.NewClientset()
	_, calls := runWith(t, Config{Client: client, NodeName: "n1", NodeWait: 50 * time.Millisecond})
	calls.Next(t, "synced")
	_, err := client.CoreV1().Nodes().Create(t.Context(), node("a"), metav1.CreateOptions{})
	cluster{t, client}.done(err)
	calls.Next(t, "node")
}

func TestServiceCIDRsAreInOrder(t *testing.T) {
	s, _ := synced(t, fake.NewClientset(node("a"), serviceCIDR("b", "fd00::/108", "10.96.0.0/12"),
		serviceCIDR("a", "10.96.0.0/12", "10.0.0.0/16", "all")))
	if got, want := fmt.Sprint(s.ServiceCIDRs()), "[10.0.0.0/16 10.96.0.0/12 fd00::/108]"; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := s.Problems(); len(got) != 1 || got[0].Field != "spec.cidrs[2]" {
		t.Errorf("problems %v", got)
	}
}
