package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/internal/inet"
)

// A Kind is the origin of a frontend in the Service. It decides nothing by itself: the frontend's other fields determine the
// treatment of packets.
type Kind uint8

// The kinds of frontends.
const (
	ClusterIP Kind = iota
	NodePort
	ExternalIP
	LoadBalancerIP
)

// String returns the kind in the words of kubectl's users.
func (k Kind) String() string {
	return [...]string{"cluster IP", "node port", "external IP", "load-balancer IP"}[k]
}

// A Desired is the desired state of one Service on this node.
type Desired struct {
	Service   Name
	Frontends []Frontend

	// Hairpins are the endpoints that may meet themselves through this node: packets from one of them to itself through a frontend
	// are masqueraded, or it would see its own address and answer past the proxy.
	Hairpins []Hairpin

	// Health is the answer of the Service's health-check node port, or nil.
	Health *Health

	// HealthChecks are the addresses at which the health-check node port answers: the node's, and the load balancer's if
	// the node has those, too.
	HealthChecks []netip.AddrPort

	// UsesAddresses reports whether any field depends on the node's addresses.
	UsesAddresses bool

	// Unserved has the Local policies with endpoints, but none on this node, by the family of the endpoints; mostly nil.
	Unserved map[inet.Family]Unserved

	// Problems are the unusable parts of the Service and its slices.
	Problems []Problem
}

// An Address identifies a frontend; no two frontends of a node share one.
type Address struct {
	Addr     netip.Addr
	Port     uint16
	Protocol inet.Protocol
}

// AddrPort returns the address and port.
func (a Address) AddrPort() netip.AddrPort { return netip.AddrPortFrom(a.Addr, a.Port) }

// String returns the address in a user's notation: "10.96.0.10:80/tcp".
func (a Address) String() string { return fmt.Sprintf("%v/%v", a.AddrPort(), a.Protocol) }

// Compare orders addresses by protocol, then by address, IPv4 first, then by port.
func (a Address) Compare(o Address) int {
	return cmp.Or(cmp.Compare(a.Protocol, o.Protocol), a.Addr.Compare(o.Addr), cmp.Compare(a.Port, o.Port))
}

// A Frontend is an address and port of a Service. Frontends of one Service port share their lists, and those of one Service their ranges.
type Frontend struct {
	Address
	Kind     Kind
	Service  Name
	PortName string // of the Service

	Scheduler string
	Affinity  time.Duration    // how long a client stays with an endpoint; 0: sessionAffinity None
	Backends  []netip.AddrPort // its endpoints, in order

	// Draining are the other listed endpoints: they get no new connections here, and existing ones go on. Of UDP, only
	// those that are ready or serving.
	Draining []netip.AddrPort

	// Internal are the endpoints for internal sources, pods of this cluster and the node itself, where these are not the
	// Backends: at frontends of an external Local policy with endpoints both here and elsewhere. Nil: the same.
	Internal *Internal

	Masquerade   Masquerade
	Rejected     bool // new connections are rejected, for lack of endpoints
	DropExternal bool // connections from external sources are dropped, for lack of endpoints on this node

	// Restricted reports whether the frontend serves only sources in SourceRanges and drops other packets.
	Restricted   bool
	SourceRanges []netip.Prefix

	OnNode    bool // the node has the address anyway
	Allocated bool // the address lies in a service range, which is routed as a whole
}

// A Masquerade selects the connections whose source a frontend hides. "External" is a source that is neither a pod, as
// detected by --detect-local-mode, nor this node.
type Masquerade uint8

// The masquerade policies.
const (
	MasqueradeNone Masquerade = iota
	MasqueradeExternal
	MasqueradeAll
)

// String returns the policy in words.
func (m Masquerade) String() string {
	return [...]string{"keep source", "masquerade external", "masquerade"}[m]
}

// An Internal is the endpoints of a frontend for internal sources.
type Internal struct {
	Backends []netip.AddrPort
	Draining []netip.AddrPort
}

// A Hairpin is an endpoint that may receive its own packets.
type Hairpin struct {
	Protocol inet.Protocol
	At       netip.AddrPort
}

// A Health is the answer of a Service's health-check node port.
type Health struct {
	Port           uint16
	LocalEndpoints int // distinct addresses of ready endpoints on this node
}

// Unserved has the Local policies for which a Service has endpoints, but none on this node.
type Unserved struct{ Internal, External bool }
