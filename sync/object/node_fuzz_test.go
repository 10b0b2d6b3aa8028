package object_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"kube-ipvs/sync/object"
)

// FuzzNode checks NodeOf and ServiceCIDR for arbitrary objects of an API server.
func FuzzNode(f *testing.F) {
	f.Add([]byte(`{"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "a"}}, "spec": {"podCIDR": "10.1.0.0/24"},
		"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n"}]}}`))
	f.Add([]byte(`{"spec": {"podCIDRs": ["10.1.2.3/8", "::ffff:10.0.0.0/104", "::ffff:0:0/0", "010.0.0.0/8", "/", ""],
		"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}, "status": {"addresses": [
		{"type": "InternalIP", "address": "fe80::1%lo"}, {"type": "ExternalIP", "address": "::ffff:127.0.0.1"}, {"type": "InternalIP"}]}}`))
	f.Add([]byte(`{"spec": {"cidrs": ["10.96.0.0/12", "fd00::/108", "0.0.0.0/0", "::/0", "10.96.0.0/33"]}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var n corev1.Node
		if json.Unmarshal(doc, &n) == nil {
			before := n.DeepCopy()
			got := object.NodeOf(&n)
			if diff := cmp.Diff(before, &n); diff != "" {
				t.Fatalf("changed its input\n%s", diff)
			}
			if diff := cmp.Diff(got, object.NodeOf(&n), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Fatalf("not the same twice\n%s", diff)
			}
			for _, a := range got.Addresses {
				if !a.IsValid() || a != a.Unmap() || a.Zone() != "" {
					t.Errorf("address %v", a)
				}
			}
			wellFormed(t, got.PodCIDRs)
			described(t, got.Problems)
		}
		var c networkingv1.ServiceCIDR
		if json.Unmarshal(doc, &c) == nil {
			got := object.ServiceCIDR(&c)
			wellFormed(t, got.Prefixes)
			described(t, got.Problems)
		}
	})
}

// wellFormed demands ranges in canonical form, each once.
func wellFormed(t *testing.T, list []netip.Prefix) {
	seen := map[netip.Prefix]bool{}
	for _, p := range list {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || seen[p] {
			t.Errorf("range %v", p)
		}
		seen[p] = true
	}
}
