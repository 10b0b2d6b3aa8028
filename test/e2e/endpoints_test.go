//go:build cluster

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func testConditions(t *testing.T, w *world) {
	s := w.create(t, "conditions")
	w.slices(t, s, ready("pod1"))
	ips := clusterIPs(s)
	w.node.await(t, "asker", ips, "pod1 saw asker")
	open := w.node.open(t, "asker", ips[0])
	for _, left := range [][]endpoint{
		{{pod: "pod1", terminates: true}, {pod: "pod2"}},
		{{pod: "pod1", notReady: true}, {pod: "pod2"}},
		{{pod: "pod2"}},
	} {
		w.slices(t, s, left)
		w.node.await(t, "asker", ips, "pod2 saw asker")
		if who := open.say(t); who != "pod1" {
			t.Errorf("%v: the open connection: %s, want pod1", left, who)
		}
	}
	w.slices(t, s, []endpoint{{pod: "pod1", terminates: true}, {pod: "pod3", terminates: true}})
	w.node.await(t, "asker", ips, "pod1 pod3 saw asker")
	w.slices(t, s, []endpoint{{pod: "pod1", notReady: true}})
	w.node.await(t, "asker", ips, "refused")
}

// testSlices: an endpoint moves from one slice to another, and may be in both for a while.
func testSlices(t *testing.T, w *world) {
	s := w.create(t, "slices")
	ips := clusterIPs(s)[:1]
	second := func(endpoints []endpoint) *discoveryv1.EndpointSlice {
		slice := newSlice(s, 0, endpoints)
		slice.Name += "-2"
		return slice
	}
	w.putSlice(t, newSlice(s, 0, ready("pod1", "pod2")))
	w.node.await(t, "asker", ips, "pod1 pod2 saw asker")
	w.putSlice(t, second(ready("pod2", "pod3")))
	w.node.await(t, "asker", ips, "pod1 pod2 pod3 saw asker")
	w.putSlice(t, newSlice(s, 0, ready("pod1")))
	w.putSlice(t, second([]endpoint{{pod: "pod2"}, {pod: "pod3", notReady: true}}))
	w.node.await(t, "asker", ips, "pod1 pod2 saw asker")
	all := w.api.DiscoveryV1().EndpointSlices(namespace)
	must(t, all.Delete(t.Context(), second(nil).Name, metav1.DeleteOptions{}))
	w.node.await(t, "asker", ips, "pod1 saw asker")
	must(t, all.Delete(t.Context(), newSlice(s, 0, nil).Name, metav1.DeleteOptions{}))
	w.node.await(t, "asker", ips, "refused")
}

// testDrainedNode: load balancers are told to leave a node that will be removed, and its packets go on.
func testDrainedNode(t *testing.T, w *world) {
	taint := func(taints string) {
		_, err := w.api.CoreV1().Nodes().Patch(t.Context(), nodeName, types.MergePatchType, []byte(`{"spec":{"taints":`+taints+`}}`), metav1.PatchOptions{})
		must(t, err)
	}
	awaitStatus := func(path string, want int) {
		t.Helper()
		w.awaitStatus(t, "http://"+nodeHost+":10256"+path, want)
	}
	s := w.create(t, "drained")
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "client", clusterIPs(s), "pod1 saw node1")
	awaitStatus("/healthz", http.StatusOK)
	taint(`[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]`)
	awaitStatus("/healthz", http.StatusServiceUnavailable)
	awaitStatus("/livez", http.StatusOK)
	w.node.still(t, "client", clusterIPs(s), "pod1 saw node1")
	taint(`[]`)
	awaitStatus("/healthz", http.StatusOK)
}

func testZones(t *testing.T, w *world) {
	zone := func(name string) {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, corev1.LabelTopologyZone, name)
		_, err := w.api.CoreV1().Nodes().Patch(t.Context(), nodeName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		must(t, err)
	}
	s := w.create(t, "zones")
	ips := clusterIPs(s)
	w.slices(t, s, []endpoint{{pod: "pod1", zone: "a"}, {pod: "pod3", zone: "b"}})
	w.node.await(t, "asker", ips, "pod1 saw asker")
	zone("b")
	w.node.await(t, "asker", ips, "pod3 saw asker")
	zone("c")
	w.node.await(t, "asker", ips, "pod1 pod3 saw asker")
	zone("a")
	w.node.await(t, "asker", ips, "pod1 saw asker")
	w.slices(t, s, []endpoint{{pod: "pod1"}, {pod: "pod3", zone: "b"}})
	w.node.await(t, "asker", ips, "pod1 pod3 saw asker")
}

func testServiceCIDR(t *testing.T, w *world) {
	free := []string{"10.97.0.9", "fd00:10:97::9"}
	given := func(s *corev1.Service) {
		s.Spec.ClusterIPs = []string{"10.97.0.5", "fd00:10:97::5"}
		s.Spec.ClusterIP = "10.97.0.5"
	}
	nobody := at(&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP}}}}, 80, free...)
	w.node.still(t, "asker", nobody, "unreachable") // the node sends it to its gateway

	ranges := w.api.NetworkingV1().ServiceCIDRs()
	more := &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "more"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/24", "fd00:10:97::/112"}},
	}
	_, err := ranges.Create(t.Context(), more, metav1.CreateOptions{})
	must(t, err)
	w.node.await(t, "asker", nobody, "refused")

	eventually(t, func() error { // until the API server gives out addresses of the range
		s := newService("more", given)
		_, err := w.api.CoreV1().Services(namespace).Create(t.Context(), s, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	s := w.create(t, "more", given)
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
	w.node.await(t, "node1", clusterIPs(s), "pod1 saw node1")
	w.remove(t, s.Name)
	w.node.await(t, "asker", clusterIPs(s), "refused")
	must(t, ranges.Delete(t.Context(), more.Name, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}))
	w.node.await(t, "asker", nobody, "unreachable")
}
