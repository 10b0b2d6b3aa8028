package kubeproxy

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// Service returns the object that says what a test's Service says: a dual-stack load balancer, of which the plan is what
// sync/object reads.
func Service(svc plan.Service) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Name.Namespace, Name: svc.Name.Name},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy:        ptr.To(corev1.IPFamilyPolicyRequireDualStack),
			InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			SessionAffinity:       corev1.ServiceAffinityNone,
			HealthCheckNodePort:   int32(svc.HealthCheckNodePort),
		},
	}
	if svc.InternalLocal {
		out.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if svc.ExternalLocal {
		out.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if svc.Affinity > 0 {
		seconds := int32(svc.Affinity.Seconds())
		out.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		out.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	for _, p := range svc.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{
			Name: p.Name, Protocol: protocol(p.Proto), Port: int32(p.Port), TargetPort: intstr.FromString(p.Name), NodePort: int32(p.NodePort),
		})
	}
	addresses(out, svc)
	return out
}

// addresses fills in where the Service is reached, and by whom.
func addresses(out *corev1.Service, svc plan.Service) {
	for _, a := range svc.ClusterIPs {
		out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, a.String())
		out.Spec.IPFamilies = append(out.Spec.IPFamilies, corev1.IPFamily(family(a)))
	}
	if len(out.Spec.ClusterIPs) > 0 {
		out.Spec.ClusterIP = out.Spec.ClusterIPs[0]
	}
	for _, a := range svc.ExternalIPs {
		out.Spec.ExternalIPs = append(out.Spec.ExternalIPs, a.String())
	}
	for _, a := range svc.LoadBalancerIPs {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
	}
	for _, p := range svc.SourceRanges {
		out.Spec.LoadBalancerSourceRanges = append(out.Spec.LoadBalancerSourceRanges, p.String())
	}
}

// Slice returns the object that says what the n-th slice of a Service says. It is false for one without endpoints, which
// has no family.
func Slice(n int, slice plan.Slice) (*discoveryv1.EndpointSlice, bool) {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: slice.Service.Namespace, Name: fmt.Sprintf("%s-%d", slice.Service.Name, n),
			Labels: map[string]string{discoveryv1.LabelServiceName: slice.Service.Name},
		},
	}
	if len(slice.Endpoints) == 0 {
		return out, false
	}
	out.AddressType = discoveryv1.AddressType(family(slice.Endpoints[0].Addr))
	for _, p := range slice.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Protocol: ptr.To(protocol(p.Proto)), Port: ptr.To(int32(p.Port))})
	}
	for _, e := range slice.Endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.Addr.String()}, NodeName: ptr.To(e.Node),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(e.Ready), Serving: ptr.To(e.Serving), Terminating: ptr.To(e.Terminating)},
		})
	}
	return out, true
}

// Node returns a node that is ready, with its addresses.
func Node(name string, addresses ...netip.Addr) *corev1.Node {
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, a := range addresses {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return out
}

// ServiceCIDR returns the object that says where cluster IPs are.
func ServiceCIDR(prefixes ...netip.Prefix) *networkingv1.ServiceCIDR {
	out := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for _, p := range prefixes {
		out.Spec.CIDRs = append(out.Spec.CIDRs, p.String())
	}
	return out
}

func family(a netip.Addr) string {
	if a.Is6() {
		return string(corev1.IPv6Protocol)
	}
	return string(corev1.IPv4Protocol)
}

func protocol(p inet.Protocol) corev1.Protocol {
	switch p {
	case inet.UDP:
		return corev1.ProtocolUDP
	case inet.SCTP:
		return corev1.ProtocolSCTP
	}
	return corev1.ProtocolTCP
}
