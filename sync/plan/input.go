// Package plan says what a Service needs of the kernel. It is pure: one Service, its endpoints and this node in, a
// Fragment out; no clock, no log, no error, no input or output.
package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/ipvs"
)

// A Name identifies a Service.
type Name struct{ Namespace, Name string }

// String returns the name as kubectl writes it: "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then name.
func (n Name) Compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}

// A Service is what the proxy needs to know of a Service object, parsed. Its lists hold both families; a frontend gets the
// endpoints of its own.
type Service struct {
	Name    Name
	UID     string
	Created time.Time // the older of two Services keeps a frontend that both claim
	Ports   []Port

	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr // those of ipMode VIP only

	// SourceRanges are the clients that the load-balancer IPs of a family serve. A family without any serves all.
	SourceRanges []netip.Prefix

	InternalLocal       bool          // internalTrafficPolicy: Local
	ExternalLocal       bool          // externalTrafficPolicy: Local
	Affinity            time.Duration // how long a client stays with an endpoint; 0: sessionAffinity None
	HealthCheckNodePort uint16        // 0 unless the Service is a load balancer with ExternalLocal

	// Problems are what of the object could not be used. The rest is served.
	Problems []Problem
}

// A Port is a port of a Service.
type Port struct {
	Name     string
	Proto    ipvs.Protocol
	Port     uint16
	NodePort uint16 // 0: none
}

// A Slice is what the proxy needs to know of an EndpointSlice: some of the endpoints of one Service, of one family.
type Slice struct {
	Service   Name
	Ports     []SlicePort
	Endpoints []Endpoint

	// Triggered is when the change that led to this slice happened (the annotation
	// endpoints.kubernetes.io/last-change-trigger-time), or zero.
	Triggered time.Time

	// Problems are what of the object could not be used.
	Problems []Problem
}

// A SlicePort is a port that all endpoints of a slice serve. It belongs to the Service's port of the same name and
// protocol.
type SlicePort struct {
	Name  string
	Proto ipvs.Protocol
	Port  uint16
}

// An Endpoint is an address that serves a Service.
type Endpoint struct {
	Addr netip.Addr
	Node string // the name of the node that it runs on, or ""

	Ready       bool // new connections may go there
	Serving     bool // it answers, whether terminating or not
	Terminating bool // it is going to leave

	ZoneHints []string // zones whose nodes should use it; none: no hint
	NodeHints []string // nodes that should use it; none: no hint
}

// A Node is what the proxy needs to know of the node that it runs on.
type Node struct {
	Name      string
	Zone      string       // label topology.kubernetes.io/zone, or ""
	Own       []netip.Addr // the node's own addresses, of both families
	Addresses []netip.Addr // those of them that serve node ports
	Primary   []netip.Addr // those that the Node object names first: with them the node asks cluster IPs
}

// Source returns the address with which the node asks cluster IPs of a family: the primary one, or else the first of its own; the zero
// Addr if it has none.
func (n Node) Source(is4 bool) netip.Addr {
	for _, a := range slices.Concat(n.Primary, n.Own) {
		if a.Is4() == is4 && slices.Contains(n.Own, a) {
			return a
		}
	}
	return netip.Addr{}
}

// A Problem is something in an object that cannot be used, or a conflict between objects, in the words of a user.
type Problem struct {
	Object string // what it is in, such as "Service default/web"
	Field  string // the field's path, such as "spec.externalIPs[0]"
	Reason string // what is wrong with it
	Note   bool   // it is a note only: what was meant is served
	Here   bool   // it is this node's own affair; without, all nodes find the same
}

// String returns the problem in one line.
func (p Problem) String() string { return fmt.Sprintf("%s: %s: %s", p.Object, p.Field, p.Reason) }
