package object

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"kube-ipvs/sync/plan"
)

// A Node is the proxy's view of a Node object. A Node with only a name stands for an object that was not found.
type Node struct {
	Name      string
	Zone      string         // label topology.kubernetes.io/zone, or ""
	Addresses []netip.Addr   // internal addresses, then external ones; the first of a family is the node's IP
	PodCIDRs  []netip.Prefix // the ranges of its pods' addresses

	// Eligible: load balancers may use the node; it exists and is not about to be removed.
	Eligible bool

	// Problems names the unusable fields of the object.
	Problems []plan.Problem
}

// drainTaint is the taint that the cluster autoscaler sets on a node before it removes it (KEP-3836).
const drainTaint = "ToBeDeletedByClusterAutoscaler"

// NodeOf reduces a Node object.
func NodeOf(n *corev1.Node) Node {
	return node(n, &pool{})
}

func node(n *corev1.Node, p *pool) Node {
	r := newReader("Node", "", n.Name)
	out := Node{
		Name:      p.intern(n.Name),
		Zone:      p.intern(n.Labels[corev1.LabelTopologyZone]),
		Addresses: exact(r.nodeAddresses(n)),
		PodCIDRs:  exact(r.podCIDRs(n)),
		Eligible:  eligible(n),
	}
	out.Problems = exact(r.problems)
	return out
}

func eligible(n *corev1.Node) bool {
	return n.DeletionTimestamp == nil &&
		!slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == drainTaint })
}

func (r *reader) nodeAddresses(n *corev1.Node) []netip.Addr {
	var out distinct[netip.Addr]
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for i, in := range n.Status.Addresses {
			if in.Type != kind {
				continue
			}
			if a, ok := r.addr(fmt.Sprintf("status.addresses[%d].address", i), in.Address); ok {
				out.add(a)
			}
		}
	}
	return out.list
}

func (r *reader) podCIDRs(n *corev1.Node) []netip.Prefix {
	if len(n.Spec.PodCIDRs) == 0 && n.Spec.PodCIDR != "" {
		return r.prefixes("spec.podCIDR", []string{n.Spec.PodCIDR})
	}
	return r.prefixes("spec.podCIDRs", n.Spec.PodCIDRs)
}

func (r *reader) prefixes(field string, list []string) []netip.Prefix {
	var out distinct[netip.Prefix]
	for i, s := range list {
		if p, ok := r.prefix(fmt.Sprintf("%s[%d]", field, i), s); ok {
			out.add(p)
		}
	}
	return out.list
}

// A CIDRs is the proxy's view of a ServiceCIDR object.
type CIDRs struct {
	Prefixes []netip.Prefix
	Problems []plan.Problem // the unusable fields of the object
}

// ServiceCIDR returns the ranges that cluster IPs are allocated from.
func ServiceCIDR(c *networkingv1.ServiceCIDR) CIDRs {
	r := newReader("ServiceCIDR", "", c.Name)
	list := r.prefixes("spec.cidrs", c.Spec.CIDRs)
	return CIDRs{Prefixes: exact(list), Problems: exact(r.problems)}
}
