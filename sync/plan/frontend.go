package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/internal/inet"
)

// A Kind says where a frontend comes from in the Service. It decides nothing by itself: what happens to a packet is in the
// frontend's other fields.
type Kind uint8

// The kinds of frontends.
const (
	ClusterIP Kind = iota
	NodePort
	ExternalIP
	LoadBalancerIP
)

// String returns the kind as a user of kubectl knows it.
func (k Kind) String() string {
	return [...]string{"cluster IP", "node port", "external IP", "load-balancer IP"}[k]
}

// A Desired is what one Service needs on this node.
type Desired struct {
	Service   Name
	Frontends []Frontend

	// Hairpins are the endpoints that may run on this node: packets that one of them sends to itself through a
	// frontend are masqueraded, or it would see its own address and answer past the proxy.
	Hairpins []Hairpin

	// Health is the answer of the Service's health-check node port, or nil.
	Health *Health

	// HealthChecks are where the health-check node port is asked: at the node's addresses, and at the load balancer's
	// where the node has those, too.
	HealthChecks []netip.AddrPort

	// UsesAddresses reports whether any of this depends on the node's addresses.
	UsesAddresses bool

	// Unserved reports for which Local policies there are endpoints, but none on this node.
	Unserved Unserved

	// Problems are what could not be used of the Service and its slices.
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

// String returns the address as a user writes it: "10.96.0.10:80/tcp".
func (a Address) String() string { return fmt.Sprintf("%v/%v", a.AddrPort(), a.Protocol) }

// Compare orders addresses by protocol, then by address, IPv4 first, then by port.
func (a Address) Compare(o Address) int {
	return cmp.Or(cmp.Compare(a.Protocol, o.Protocol), a.Addr.Compare(o.Addr), cmp.Compare(a.Port, o.Port))
}

// A Frontend is an address and port at which a Service is reached. Frontends of one Service port share their lists.
type Frontend struct {
	Address
	Kind     Kind
	PortName string // of the Service

	Scheduler string
	Affinity  time.Duration    // how long a client stays with an endpoint; 0: sessionAffinity None
	Backends  []netip.AddrPort // who serves it, in order

	// Draining are the endpoints that are listed but get no new connections here; those that they have go on.
	Draining []netip.AddrPort

	// Internal is who serves internal sources, pods of this cluster and the node itself, where these are not the Backends:
	// the frontends of an external Local policy with endpoints both here and elsewhere. Nil: the same.
	Internal *Internal

	Masquerade   Masquerade
	Rejected     bool // new connections are rejected, since nobody serves them
	DropExternal bool // connections from external sources are dropped, since no endpoint is on this node

	// Restricted reports whether the frontend serves only the sources in SourceRanges, and drops the packets of others.
	Restricted   bool
	SourceRanges []netip.Prefix

	OnNode    bool // the node has the address anyway
	Allocated bool // the address lies in a service range, which is routed as a whole
}

// A Masquerade says for which sources a frontend hides the source of connections. "External" is a source that is neither a
// pod, as --detect-local-mode finds them, nor this node.
type Masquerade uint8

// Whose source is hidden.
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

// A Hairpin is an endpoint that may be sent its own packets.
type Hairpin struct {
	Protocol inet.Protocol
	At       netip.AddrPort
}

// A Health is what a health-check node port answers for a Service.
type Health struct {
	Port           uint16
	LocalEndpoints int // distinct addresses of ready endpoints on this node
}

// Unserved says for which Local policies a Service has endpoints, but none on this node.
type Unserved struct{ Internal, External bool }
