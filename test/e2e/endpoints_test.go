//go:build cluster

package e2e_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
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
