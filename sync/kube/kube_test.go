package kube

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"go.uber.org/goleak"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = plan.Name{Namespace: "default", Name: "web"}

// run runs a source for the node n1 until the test ends.
func run(t *testing.T, client *fake.Clientset) (*Source, sourcetest.Recorder) {
	t.Helper()
	return runWith(t, Config{Client: client, NodeName: "n1"})
}

func runWith(t *testing.T, cfg Config) (*Source, sourcetest.Recorder) {
	t.Helper()
	calls := sourcetest.NewRecorder()
	cfg.Problems = calls.Problems
	return runFor(t, cfg, calls), calls
}

func runFor(t *testing.T, cfg Config, h source.Handler) *Source {
	t.Helper()
	s := New(cfg, h)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// synced runs a source until it has synced.
func synced(t *testing.T, client *fake.Clientset) (*Source, sourcetest.Recorder) {
	t.Helper()
	s, calls := run(t, client)
	calls.Next(t, "synced")
	return s, calls
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-of-web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.10",
			Ports:     []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
}

func slice(name, service string, addresses ...string) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
	}
	for _, a := range addresses {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return es
}

func node(zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
}

func serviceCIDR(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
}

// A cluster writes to the fake API server.
type cluster struct {
	*testing.T
	*fake.Clientset
}

func (c cluster) done(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c cluster) create(svc *corev1.Service) {
	_, err := c.CoreV1().Services(svc.Namespace).Create(c.Context(), svc, metav1.CreateOptions{})
	c.done(err)
}

func (c cluster) update(svc *corev1.Service) {
	_, err := c.CoreV1().Services(svc.Namespace).Update(c.Context(), svc, metav1.UpdateOptions{})
	c.done(err)
}

func (c cluster) remove(name string) {
	c.done(c.CoreV1().Services("default").Delete(c.Context(), name, metav1.DeleteOptions{}))
}

func (c cluster) createSlice(es *discoveryv1.EndpointSlice) {
	_, err := c.DiscoveryV1().EndpointSlices(es.Namespace).Create(c.Context(), es, metav1.CreateOptions{})
	c.done(err)
}

func (c cluster) updateSlice(es *discoveryv1.EndpointSlice) {
	_, err := c.DiscoveryV1().EndpointSlices(es.Namespace).Update(c.Context(), es, metav1.UpdateOptions{})
	c.done(err)
}

func (c cluster) removeSlice(name string) {
	c.done(c.DiscoveryV1().EndpointSlices("default").Delete(c.Context(), name, metav1.DeleteOptions{}))
}

func (c cluster) updateNode(n *corev1.Node) {
	_, err := c.CoreV1().Nodes().Update(c.Context(), n, metav1.UpdateOptions{})
	c.done(err)
}
