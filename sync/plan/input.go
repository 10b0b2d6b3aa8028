// Package plan computes the treatment of packets for a Service, in any proxy mode. It is pure: one Service, its endpoints and
// this node in, a Desired out; no clock, no log, no error, no input or output.
package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
)

// A Name identifies a Service.
type Name struct{ Namespace, Name string }

// String returns the name in kubectl's notation: "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then name.
func (n Name) Compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}

// SchedulerAnnotation of a Service names the scheduler of its virtual servers, if the operator lets Services choose it.
const SchedulerAnnotation = "kube-ipvs/scheduler"

// SchedulerField is the path of SchedulerAnnotation.
const SchedulerField = "metadata.annotations[" + SchedulerAnnotation + "]"

// A Service is the proxy's part of a Service object, parsed. Its lists hold both families; a frontend gets the endpoints of
// its own.
type Service struct {
	Name    Name
	UID     string
	Created time.Time // the older of two Services keeps a frontend claimed by both
	Ports   []Port

	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr // those of ipMode VIP only

	// SourceRanges are the clients of the load-balancer IPs of a family. A family without any serves all.
	SourceRanges []netip.Prefix

	InternalLocal       bool          // internalTrafficPolicy: Local
	ExternalLocal       bool          // externalTrafficPolicy: Local
	Affinity            time.Duration // how long a client stays with an endpoint; 0: sessionAffinity None
	HealthCheckNodePort uint16        // 0 unless the Service is a load balancer with ExternalLocal
	Scheduler           string        // of SchedulerAnnotation; empty: the operator's

	// Problems are the unusable parts of the object. The rest is served.
	Problems []Problem
}

// A Port is a port of a Service.
type Port struct {
	Name     string
	Proto    inet.Protocol
	Port     uint16
	NodePort uint16 // 0: none
}

// A Slice is the proxy's part of an EndpointSlice: some of the endpoints of one Service, of one family.
type Slice struct {
	Name      string // in the Service's namespace
	Service   Name
	Family    inet.Family // of the endpoints
	Ports     []SlicePort
	Endpoints []Endpoint

	// Triggered is the time of the change behind this slice (the annotation
	// endpoints.kubernetes.io/last-change-trigger-time), or zero.
	Triggered time.Time

	// Problems are the unusable parts of the object.
	Problems []Problem
}

// A SlicePort is a port of all endpoints of a slice. It belongs to the Service's port of the same name and protocol.
type SlicePort struct {
	Name  string
	Proto inet.Protocol
	Port  uint16
}

// An Endpoint is an address that serves a Service.
type Endpoint struct {
	Addr netip.Addr
	Node string // its node's name, or ""

	Ready       bool // new connections may go there
	Serving     bool // it answers, whether terminating or not
	Terminating bool // it is about to leave

	ZoneHints []string // zones whose nodes should use it; none: no hint
	NodeHints []string // nodes that should use it; none: no hint
}

// serves reports whether clients of the endpoint get answers.
func (e *Endpoint) serves() bool { return e.Ready || e.Serving }

// standsIn reports whether the endpoint may serve where none is ready.
func (e *Endpoint) standsIn() bool { return e.Serving && e.Terminating }

// A Node is the proxy's part of its node.
type Node struct {
	Name      string
	Zone      string       // label topology.kubernetes.io/zone, or ""
	Own       []netip.Addr // the node's own addresses, of both families
	Addresses []netip.Addr // the ones with node ports
	Primary   []netip.Addr // the first ones in the Node object, as last known: sources of the node's connections to cluster IPs
}

// runs reports whether an endpoint is on the node.
func (n Node) runs(e *Endpoint) bool { return n.Name != "" && e.Node == n.Name }

// mayRun reports whether an endpoint is on the node, or on none that is known.
func (n Node) mayRun(e *Endpoint) bool { return e.Node == n.Name || e.Node == "" }

// Source returns the source of the node's connections to cluster IPs of a family: the primary address, or else the first of
// its own; the zero Addr if it has none.
func (n Node) Source(is4 bool) netip.Addr {
	for _, a := range slices.Concat(n.Primary, n.Own) {
		if a.Is4() == is4 && slices.Contains(n.Own, a) {
			return a
		}
	}
	return netip.Addr{}
}

// A Problem is an unusable part of an object, or a conflict between objects, in the words of a user.
type Problem struct {
	Object string // such as "Service default/web"
	Field  string // path, such as "spec.externalIPs[0]"
	Reason string // why it cannot be used
	Note   bool   // a note only: the intent is served
	Here   bool   // it concerns this node only; without, all nodes find the same
}

// String returns the problem in one line.
func (p Problem) String() string { return fmt.Sprintf("%s: %s: %s", p.Object, p.Field, p.Reason) }
