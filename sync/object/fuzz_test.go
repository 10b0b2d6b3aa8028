package object_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// FuzzService checks Service for arbitrary objects of an API server.
func FuzzService(f *testing.F) {
	for _, svc := range hostile() {
		doc, err := json.Marshal(svc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var svc corev1.Service
		if json.Unmarshal(doc, &svc) != nil {
			return
		}
		before := svc.DeepCopy()
		got, ok := object.Service(&svc)
		if diff := cmp.Diff(before, &svc); diff != "" {
			t.Fatalf("changed its input\n%s", diff)
		}
		if again, k := object.Service(&svc); k != ok || !object.SameService(got, again) {
			t.Fatalf("%+v, then %+v", got, again)
		}
		frontends(t, got.ClusterIPs)
		frontends(t, got.ExternalIPs)
		frontends(t, got.LoadBalancerIPs)
		ranges(t, got)
		servicePorts(t, got.Ports)
		if got.Affinity < 0 {
			t.Errorf("affinity %v", got.Affinity)
		}
		described(t, got.Problems)
	})
}

// hostile are Services of malicious users: against others' addresses, to the node's own, or to the proxy's memory.
func hostile() []*corev1.Service {
	var out []*corev1.Service
	add := func(edit func(*corev1.Service)) {
		svc := &corev1.Service{Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		}}
		svc.Namespace, svc.Name = "default", "hostile"
		edit(svc)
		out = append(out, svc)
	}
	add(func(s *corev1.Service) {
		for i := range 1000 {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}).String())
		}
	})
	add(func(s *corev1.Service) {
		for range 1000 {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 80, NodePort: 30080, Protocol: "TCP"})
		}
	})
	evil := []string{"127.0.0.1", "127.255.255.254", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "0.0.0.1",
		"::", "255.255.255.255", "::ffff:127.0.0.1", "::ffff:0:0", "0127.0.0.1", "127.1", "fe80::1%lo",
		"255.18.0.1", "255.255.255.254", "254.255.255.254", "1ff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "400::1"}
	add(func(s *corev1.Service) { s.Spec.ExternalIPs = evil })
	add(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = evil[0], evil })
	add(func(s *corev1.Service) {
		for _, a := range evil {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
		s.Spec.LoadBalancerSourceRanges = []string{"0.0.0.0/0", "::ffff:0:0/0", "10.0.0.0/33", "10.1.2.3/8", "-1", ""}
	})
	return out
}

// TestHostileAddresses: no field of a Service makes a reserved address its own.
func TestHostileAddresses(t *testing.T) {
	for _, svc := range hostile() {
		got, _ := object.Service(svc)
		for _, list := range [][]netip.Addr{got.ClusterIPs, got.ExternalIPs, got.LoadBalancerIPs} {
			frontends(t, list)
		}
	}
}

// frontends demands addresses that may be captured, each once, in canonical form.
func frontends(t *testing.T, list []netip.Addr) {
	seen := map[netip.Addr]bool{}
	for _, a := range list {
		if !a.IsValid() || a != a.Unmap() || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() ||
			a.IsLinkLocalUnicast() || a.Is4() && a.As4()[0]%255 == 0 || inet.IsOwn(a) || seen[a] {
			t.Errorf("frontend %v", a)
		}
		seen[a] = true
	}
}

// ranges demands canonical ranges that do not hold every address.
func ranges(t *testing.T, svc plan.Service) {
	for _, p := range svc.SourceRanges {
		if !p.IsValid() || p != p.Masked() || p.Bits() == 0 || p.Addr().Is4In6() {
			t.Errorf("range %v", p)
		}
	}
}

// servicePorts demands distinct ports.
func servicePorts(t *testing.T, list []plan.Port) {
	type key struct {
		proto inet.Protocol
		port  uint16
	}
	ports, nodePorts := map[key]bool{}, map[key]bool{}
	for _, p := range list {
		k, n := key{p.Proto, p.Port}, key{p.Proto, p.NodePort}
		if p.Port == 0 || p.Proto == 0 || ports[k] || nodePorts[n] {
			t.Errorf("port %+v", p)
		}
		ports[k], nodePorts[n] = true, p.NodePort != 0
	}
}

// described demands that a problem names its object.
func described(t *testing.T, list []plan.Problem) {
	for _, p := range list {
		if p.Object == "" || p.Field == "" || p.Reason == "" {
			t.Errorf("problem %+v", p)
		}
	}
}

// FuzzSlice checks Slice for arbitrary objects of an API server.
func FuzzSlice(f *testing.F) {
	f.Fuzz(func(t *testing.T, doc []byte) {
		var es discoveryv1.EndpointSlice
		if json.Unmarshal(doc, &es) != nil {
			return
		}
		before := es.DeepCopy()
		got, ok := object.Slice(&es)
		if diff := cmp.Diff(before, &es); diff != "" {
			t.Fatalf("changed its input\n%s", diff)
		}
		if again, k := object.Slice(&es); k != ok || !object.SameSlice(got, again) {
			t.Fatalf("%+v, then %+v", got, again)
		}
		if ok != (got.Service.Name != "") || !ok && len(got.Endpoints)+len(got.Ports) > 0 {
			t.Errorf("ok %v: %+v", ok, got)
		}
		for _, e := range got.Endpoints {
			frontends(t, []netip.Addr{e.Addr})
			if e.Addr.Is6() != (es.AddressType == discoveryv1.AddressTypeIPv6) || e.Addr.IsLinkLocalUnicast() {
				t.Errorf("endpoint %v", e.Addr)
			}
		}
		for _, p := range got.Ports {
			if p.Port == 0 || p.Proto == 0 {
				t.Errorf("port %+v", p)
			}
		}
		described(t, got.Problems)
	})
}
