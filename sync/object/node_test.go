package object_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

func TestNode(t *testing.T) {
	address := func(kind corev1.NodeAddressType, a string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: kind, Address: a}
	}
	for _, c := range []struct {
		name string
		edit func(*corev1.Node)
		want object.Node
	}{
		{"bare", func(*corev1.Node) {}, object.Node{Eligible: true}},
		{"zone", func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelTopologyZone: "a"} },
			object.Node{Zone: "a", Eligible: true}},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = ptr.To(metav1.Now()) }, object.Node{}},
		{"about to be removed", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}} },
			object.Node{}},
		{"another taint", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "gpu"}} }, object.Node{Eligible: true}},
		{"internal addresses before external ones", func(n *corev1.Node) {
			n.Status.Addresses = []corev1.NodeAddress{address(corev1.NodeHostName, "n1"), address(corev1.NodeExternalIP, "192.0.2.1"),
				address(corev1.NodeInternalIP, "10.0.0.1"), address(corev1.NodeInternalIP, "fd00::1"),
				address(corev1.NodeInternalIP, "10.0.0.1"), address(corev1.NodeInternalIP, "n1.example.com")}
		}, object.Node{Eligible: true, Addresses: addrs("10.0.0.1", "fd00::1", "192.0.2.1"), Problems: []plan.Problem{
			{Object: "Node n1", Field: "status.addresses[5].address", Reason: `"n1.example.com" is not an IP address`}}}},
		{"pod ranges", func(n *corev1.Node) {
			n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.1.0.0/24", []string{"10.1.0.0/24", "fd01::/64"}
		},
			object.Node{Eligible: true, PodCIDRs: prefixes("10.1.0.0/24", "fd01::/64")}},
		{"pod range of an old object", func(n *corev1.Node) { n.Spec.PodCIDR = "10.1.0.0/24" },
			object.Node{Eligible: true, PodCIDRs: prefixes("10.1.0.0/24")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			c.edit(n)
			c.want.Name = "n1"
			if diff := cmp.Diff(c.want, object.NodeOf(n), values); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestServiceCIDR(t *testing.T) {
	got := object.ServiceCIDR(&networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.1/12", "fd00::/108", "all"}},
	})
	want := object.CIDRs{Prefixes: prefixes("10.96.0.0/12", "fd00::/108"), Problems: []plan.Problem{
		{Object: "ServiceCIDR kubernetes", Field: "spec.cidrs[2]", Reason: `"all" is not a range of IP addresses`}}}
	if diff := cmp.Diff(want, got, values); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
