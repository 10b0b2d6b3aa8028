//go:build cluster

package e2e_test

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const namespace = metav1.NamespaceDefault

// newService returns a Service with cluster IPs of both families and the TCP port 80, changed by the functions.
func newService(name string, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyRequireDualStack),
			Ports:          []corev1.ServicePort{{Name: "p", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// create creates a Service. It is deleted at the end of the test.
func (w *world) create(t *testing.T, name string, changes ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	s, err := w.api.CoreV1().Services(namespace).Create(t.Context(), newService(name, changes...), metav1.CreateOptions{})
	must(t, err)
	t.Cleanup(func() { w.remove(t, name) })
	return s
}

// update changes a Service.
func (w *world) update(t *testing.T, name string, change func(*corev1.Service)) *corev1.Service {
	t.Helper()
	services := w.api.CoreV1().Services(namespace)
	s, err := services.Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	change(s)
	s, err = services.Update(t.Context(), s, metav1.UpdateOptions{})
	must(t, err)
	return s
}

// balance says that a load balancer has been set up for a Service at these addresses, as a cloud's controller does.
func (w *world) balance(t *testing.T, name string, mode corev1.LoadBalancerIPMode, ips ...string) {
	t.Helper()
	services := w.api.CoreV1().Services(namespace)
	s, err := services.Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	s.Status.LoadBalancer.Ingress = nil
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: &mode})
	}
	_, err = services.UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
	must(t, err)
}

// remove deletes a Service and, like the garbage collector, its slices. One that is gone is no error.
func (w *world) remove(t *testing.T, name string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it may be the end of the test
	err := w.api.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		check(t, err)
	}
	check(t, w.api.DiscoveryV1().EndpointSlices(namespace).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name}))
}

// An endpoint is a pod in some state. Its zero value, with a name, is ready.
type endpoint struct {
	pod                  string
	notReady, terminates bool
	zone                 string // hint
}

func ready(pods ...string) []endpoint {
	var out []endpoint
	for _, pod := range pods {
		out = append(out, endpoint{pod: pod})
	}
	return out
}

func (e endpoint) object(family int) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses: []string{podAddress[e.pod][family].String()},
		NodeName:  ptr.To(nodeName),
		Conditions: discoveryv1.EndpointConditions{
			Ready: ptr.To(!e.notReady && !e.terminates), Serving: ptr.To(!e.notReady), Terminating: &e.terminates,
		},
	}
	if e.pod == "pod3" {
		out.NodeName = ptr.To("node2")
	}
	if e.zone != "" {
		out.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: e.zone}}}
	}
	return out
}

// slices makes a Service's EndpointSlices, one a family, say that these are its endpoints, as the EndpointSlice controller
// writes them.
func (w *world) slices(t *testing.T, s *corev1.Service, endpoints []endpoint) {
	t.Helper()
	for family := range families {
		w.putSlice(t, newSlice(s, family, endpoints))
	}
}

// families are those of addresses, in the order of the laboratory.
var families = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}

// newSlice returns the slice of one family.
func newSlice(s *corev1.Service, family int, endpoints []endpoint) *discoveryv1.EndpointSlice {
	kind := families[family]
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name + "-" + strings.ToLower(string(kind)),
			Labels: map[string]string{
				discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
			},
			Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: kind,
	}
	maps.Copy(slice.Labels, s.Labels)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		slice.Labels[corev1.IsHeadlessService] = ""
	}
	for _, p := range s.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.TargetPort.IntVal})
	}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, e.object(family))
	}
	return slice
}

// putSlice puts a slice in the place of the one of its name, if there is one.
func (w *world) putSlice(t *testing.T, slice *discoveryv1.EndpointSlice) {
	t.Helper()
	all := w.api.DiscoveryV1().EndpointSlices(namespace)
	_, err := all.Update(t.Context(), slice, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = all.Create(t.Context(), slice, metav1.CreateOptions{})
	}
	must(t, err)
}

// clusterIPs returns where a Service is reached by its cluster IPs, at its first port.
func clusterIPs(s *corev1.Service) []frontend {
	return at(s, s.Spec.Ports[0].Port, s.Spec.ClusterIPs...)
}

// nodePorts returns where a Service is reached on the node, by its first port.
func nodePorts(s *corev1.Service) []frontend {
	return at(s, s.Spec.Ports[0].NodePort, nodeAddress[0].String(), nodeAddress[1].String())
}

// at returns frontends of a Service's first protocol.
func at(s *corev1.Service, port int32, ips ...string) []frontend {
	var out []frontend
	for _, ip := range ips {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port))
		out = append(out, frontend{strings.ToLower(string(s.Spec.Ports[0].Protocol)), to})
	}
	return out
}
