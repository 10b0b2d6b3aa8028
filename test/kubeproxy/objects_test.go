package kubeproxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// What kube-ipvs reads from the objects is what they were made of, so both proxies are told the same.
func TestObjects(t *testing.T) {
	compare := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	name := plan.Name{Namespace: "test", Name: "a"}
	addrs := func(v4, v6 string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
	}
	svc := plan.Service{
		Name:       name,
		Ports:      []plan.Port{{Name: "p", Proto: inet.SCTP, Port: 80, NodePort: 30001}, {Name: "q", Proto: inet.UDP, Port: 53}},
		ClusterIPs: addrs("10.96.0.1", "fd00:10:96::1"), ExternalIPs: addrs("203.0.113.1", "2001:db8:203::1"),
		LoadBalancerIPs: addrs("203.0.113.2", "2001:db8:203::2"), SourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		InternalLocal: true, ExternalLocal: true, Affinity: time.Hour, HealthCheckNodePort: 31999,
	}
	got, ok := object.Service(Service(svc))
	if diff := cmp.Diff(svc, got, compare); !ok || diff != "" {
		t.Errorf("Service %v, -want +got:\n%s", ok, diff)
	}
	slice := plan.Slice{
		Name: "a-0", Family: inet.IPv4,
		Service: name, Ports: []plan.SlicePort{{Name: "p", Proto: inet.SCTP, Port: 8080}},
		Endpoints: []plan.Endpoint{
			{Addr: netip.MustParseAddr("10.244.1.11"), Node: "node1", Ready: true, Serving: true},
			{Addr: netip.MustParseAddr("10.244.1.12"), Node: "node2", Serving: true, Terminating: true},
		},
	}
	es, ok := Slice(0, slice)
	if !ok {
		t.Fatal("a slice with endpoints has no family")
	}
	read, ok := object.Slice(es)
	if diff := cmp.Diff(slice, read, compare); !ok || diff != "" {
		t.Errorf("Slice %v, -want +got:\n%s", ok, diff)
	}
}
