//go:build cluster

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func testLife(t *testing.T, w *world) {
	s := w.create(t, "life")
	ips := clusterIPs(s)
	w.node.await(t, "asker", ips, "refused")
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", ips, "pod1 saw asker")
	w.slices(t, s, ready("pod1", "pod3"))
	w.node.await(t, "asker", ips, "pod1 pod3 saw asker")
	w.node.await(t, "client", ips, "pod1 pod3 saw node1")
	w.node.await(t, "node1", ips, "pod1 pod3 saw node1")
	w.slices(t, s, ready("pod3"))
	w.node.await(t, "asker", ips, "pod3 saw asker")

	s = w.update(t, s.Name, func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 })
	w.node.await(t, "asker", clusterIPs(s), "pod3 saw asker")
	w.node.await(t, "asker", ips, "refused")
	s = w.update(t, s.Name, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9090) })
	w.slices(t, s, ready("pod3"))
	w.node.await(t, "asker", clusterIPs(s), "pod3:9090 saw asker")

	w.remove(t, s.Name)
	w.node.await(t, "asker", clusterIPs(s), "refused")
}

func testFamilies(t *testing.T, w *world) {
	s := w.create(t, "families", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack) })
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
	both := w.update(t, s.Name, func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack) })
	if len(both.Spec.ClusterIPs) != 2 {
		t.Fatalf("cluster IPs %v, want one of each family", both.Spec.ClusterIPs)
	}
	w.node.await(t, "asker", clusterIPs(both), "pod1 saw asker")
	w.update(t, s.Name, func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
		s.Spec.ClusterIPs, s.Spec.IPFamilies = s.Spec.ClusterIPs[:1], s.Spec.IPFamilies[:1]
	})
	w.node.await(t, "asker", clusterIPs(both)[1:], "refused")
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
}

func testTypes(t *testing.T, w *world) {
	s := w.create(t, "types")
	w.slices(t, s, ready("pod1", "pod3"))
	const served = "pod1 pod3 saw node1"
	w.node.await(t, "client", clusterIPs(s), served)

	s = w.update(t, s.Name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	ports := nodePorts(s)
	w.node.await(t, "client", ports, served)
	w.update(t, s.Name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	ips := []string{"203.0.113.10", "2001:db8:203::10"}
	balancer := at(s, 80, ips...)
	w.node.await(t, "client", balancer, "unreachable")
	w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, ips...)
	w.node.await(t, "client", balancer, served)
	w.balance(t, s.Name, corev1.LoadBalancerIPModeProxy, ips...)
	w.node.await(t, "client", balancer, "unreachable")
	w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, ips...)
	w.node.await(t, "client", balancer, served)
	w.node.still(t, "client", ports, served)

	w.update(t, s.Name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.node.await(t, "client", balancer, "unreachable")
	w.node.await(t, "client", ports, "refused")
	w.node.still(t, "client", clusterIPs(s), served)
}

func testExternalIPs(t *testing.T, w *world) {
	ips := []string{"203.0.113.20", "2001:db8:203::20"}
	s := w.create(t, "external", func(s *corev1.Service) { s.Spec.ExternalIPs = ips })
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "client", at(s, 80, ips...), "pod1 saw node1")
	w.node.await(t, "asker", at(s, 80, ips...), "pod1 saw node1")
	w.update(t, s.Name, func(s *corev1.Service) { s.Spec.ExternalIPs = ips[1:] })
	w.node.await(t, "client", at(s, 80, ips[0]), "unreachable")
	w.node.still(t, "client", at(s, 80, ips[1]), "pod1 saw node1")
}

func testNoAddress(t *testing.T, w *world) {
	const external = "203.0.113.30"
	headless := w.create(t, "headless", func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.ExternalIPs = corev1.ClusterIPNone, []string{external}
	})
	w.slices(t, headless, ready("pod1"))

	s := w.create(t, "named") // later than the other: once it is served, the other has been seen
	w.slices(t, s, ready("pod1"))
	ips := clusterIPs(s)
	w.node.await(t, "asker", ips, "pod1 saw asker")
	w.node.still(t, "client", at(headless, 80, external), "unreachable")

	w.update(t, s.Name, func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", Ports: s.Spec.Ports}
	})
	w.node.await(t, "asker", ips, "refused")
	s = w.update(t, s.Name, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, ""
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	})
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
}

func testOtherProxy(t *testing.T, w *world) {
	const label = "service.kubernetes.io/service-proxy-name"
	s := w.create(t, "other")
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
	s = w.update(t, s.Name, func(s *corev1.Service) { s.Labels = map[string]string{label: "another"} })
	w.node.await(t, "asker", clusterIPs(s), "refused") // although its slices are still there
	w.slices(t, s, ready("pod1"))                      // as the controller labels them
	w.node.still(t, "asker", clusterIPs(s), "refused")
	s = w.update(t, s.Name, func(s *corev1.Service) { s.Labels = nil })
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
}

func testAffinity(t *testing.T, w *world) {
	s := w.create(t, "affinity", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	w.slices(t, s, ready("pod1", "pod3"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker", "pod3 saw asker")
	w.update(t, s.Name, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityNone })
	w.node.await(t, "asker", clusterIPs(s), "pod1 pod3 saw asker")
}

func testSourceRanges(t *testing.T, w *world) {
	ips := []string{"203.0.113.15", "2001:db8:203::15"}
	ranges := func(ranges ...string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = ranges }
	}
	s := w.create(t, "ranges", ranges("192.0.2.0/24", "2001:db8:99::/64"), func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	w.slices(t, s, ready("pod1"))
	w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, ips...)
	w.node.await(t, "client", at(s, 80, ips...), "silence")
	w.update(t, s.Name, ranges("192.0.2.0/24", "198.51.100.0/24", "2001:db8:51::/64"))
	w.node.await(t, "client", at(s, 80, ips...), "pod1 saw node1")
	w.update(t, s.Name, ranges("192.0.2.0/24", "2001:db8:51::/64"))
	w.node.await(t, "client", at(s, 80, ips[0]), "silence")
	w.update(t, s.Name, ranges())
	w.node.await(t, "client", at(s, 80, ips...), "pod1 saw node1")
}

func testPolicies(t *testing.T, w *world) {
	s := w.create(t, "policies", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	w.slices(t, s, ready("pod1", "pod3"))
	w.node.await(t, "client", nodePorts(s), "pod1 pod3 saw node1")
	s = w.update(t, s.Name, func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	w.node.await(t, "client", nodePorts(s), "pod1 saw client")
	w.node.await(t, "asker", nodePorts(s), "pod1 pod3 saw asker")
	health := fmt.Sprintf("http://%s:%d", nodeHost, s.Spec.HealthCheckNodePort)
	w.awaitStatus(t, health, http.StatusOK)
	w.slices(t, s, ready("pod3"))
	w.node.await(t, "client", nodePorts(s), "silence")
	w.node.await(t, "asker", nodePorts(s), "pod3 saw asker")
	w.awaitStatus(t, health, http.StatusServiceUnavailable)

	w.node.await(t, "asker", clusterIPs(s), "pod3 saw asker")
	w.update(t, s.Name, func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	})
	w.node.await(t, "asker", clusterIPs(s), "silence")
	w.slices(t, s, ready("pod2", "pod3"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
}

func testProtocols(t *testing.T, w *world) {
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		name := map[corev1.Protocol]string{corev1.ProtocolUDP: "udp", corev1.ProtocolSCTP: "sctp"}[protocol]
		s := w.create(t, name, func(s *corev1.Service) { s.Spec.Ports[0].Protocol = protocol })
		w.slices(t, s, ready("pod1", "pod3"))
		w.node.await(t, "asker", clusterIPs(s), "pod1 pod3 saw asker")
		w.slices(t, s, ready("pod3"))
		w.node.await(t, "asker", clusterIPs(s), "pod3 saw asker")
		w.remove(t, name)
		w.node.await(t, "asker", clusterIPs(s), "refused")
	}
}
