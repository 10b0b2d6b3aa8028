package kubeproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/test/child"
)

// A marker is a state of a Service that nobody uses. kube-proxy opens a Service's health-check node port, and answers there how
// many endpoints are on the node, when it has programmed all that it had read before; it reads the changes of a kind in their
// order. So a marker that changes last and shows has everything in front of it. Its metrics would not do: they tell that
// something was programmed, and not what.
type marker int

const (
	markerName      = "settled"
	markerNamespace = "kube-proxy-test"
)

// port is closed while the marker before this one stands.
func (m marker) port() int { return 31990 + int(m)%2 }

// endpoints are as many as the marker before this one has not.
func (m marker) endpoints() int { return 1 + int(m)%2 }

func (m marker) objects(node string) []Object {
	all := []Object{&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: markerNamespace, Name: markerName},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "192.0.2.1", ClusterIPs: []string{"192.0.2.1", "2001:db8::1"},
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: int32(m.port()),
			Ports: []corev1.ServicePort{{Name: "p", Protocol: corev1.ProtocolTCP, Port: 1}},
		},
	}}
	for _, family := range []struct {
		kind   discoveryv1.AddressType
		prefix string
	}{{discoveryv1.AddressTypeIPv4, "192.0.2.2"}, {discoveryv1.AddressTypeIPv6, "2001:db8::2"}} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: markerNamespace, Name: fmt.Sprintf("%s-%s", markerName, family.kind),
				Labels: map[string]string{discoveryv1.LabelServiceName: markerName},
			},
			AddressType: family.kind,
			Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("p"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(1))}},
		}
		for i := range m.endpoints() {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{family.prefix + strconv.Itoa(i)}, NodeName: &node,
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
			})
		}
		all = append(all, slice)
	}
	return all
}

// shows says that a health-check node port tells of the marker.
func (m marker) shows(ctx context.Context, address string) bool {
	// The answer's status tells of kube-proxy's own health, which is not asked for.
	text, _ := child.Get(ctx, "http://"+net.JoinHostPort(address, strconv.Itoa(m.port())))
	var health struct {
		Service        struct{ Name string }
		LocalEndpoints int
	}
	err := json.Unmarshal([]byte(text), &health)
	return err == nil && health.Service.Name == markerName && health.LocalEndpoints == m.endpoints()
}

// Settle waits until kube-proxy has programmed, for both families, all that the API was given before. To see that, it changes
// a Service of its own, 192.0.2.1 and 2001:db8::1.
func (p *Proxy) Settle(ctx context.Context) error {
	p.marker++
	if err := p.api.Set(p.marker.objects(p.node)...); err != nil {
		return err
	}
	const pause = 20 * time.Millisecond
	for _, address := range []string{"127.0.0.1", "::1"} {
		if err := p.program.Until(ctx, pause, func() bool { return p.marker.shows(ctx, address) }); err != nil {
			return errors.Join(err, p.program.LastWords())
		}
	}
	return nil
}
