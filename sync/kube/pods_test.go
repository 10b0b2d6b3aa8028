package kube

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"kube-ipvs/sync/plan"
)

// The names of pods are those of the Service's own slices; without an answer there are none.
func TestPods(t *testing.T) {
	web, other := slice("web-1", "web", "10.1.0.1", "10.1.0.2", "bad"), slice("other-1", "other", "10.1.0.9")
	other.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "other-a"}
	web.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "web-a"}
	web.Endpoints[1].TargetRef = &corev1.ObjectReference{Kind: "Node", Name: "n1"}
	web.Endpoints[2].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "web-c"}
	client := fake.NewClientset(web, other)
	s := New(Config{Client: client}, nil)
	name := plan.Name{Namespace: "default", Name: "web"}
	want := map[netip.Addr]string{netip.MustParseAddr("10.1.0.1"): "web-a"}
	if diff := cmp.Diff(want, s.Pods(t.Context(), name), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	client.PrependReactor("list", "endpointslices", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("no API server")
	})
	if got := s.Pods(t.Context(), name); len(got) != 0 {
		t.Errorf("without an API server: %v", got)
	}
}
