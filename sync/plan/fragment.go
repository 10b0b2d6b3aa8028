package plan

import (
	"net/netip"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
)

// A Kind says where a frontend comes from in the Service. It decides nothing by itself: what happens to a packet is the
// frontend's Treatment.
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

// A Fragment is what one Service needs of the kernel.
type Fragment struct {
	Service   Name
	Frontends []Frontend

	// Hairpins are the endpoints that may run on this node: packets that one of them sends to itself through a
	// frontend are masqueraded, or it would see its own address and answer past IPVS.
	Hairpins []Hairpin

	// Health is the answer of the Service's health-check node port, or nil.
	Health *Health

	// Probed is where the health-check node port is asked: at the node's addresses, and at the load balancer's where the
	// node has those, too.
	Probed []netip.AddrPort

	// UsesAddresses says that the fragment depends on the node's addresses.
	UsesAddresses bool

	// Unserved is how many of its frontends have a Local policy and endpoints, but none on this node.
	Unserved Unserved

	// Problems are what could not be used of the Service and its slices.
	Problems []Problem
}

// A Frontend is an address and port at which a Service is reached. Frontends of one Service port share their lists.
type Frontend struct {
	Key       ipvs.Key
	Kind      Kind
	Port      string // the Service port's name
	Server    ipvs.Server
	Treatment Treatment
	Reals     []netip.AddrPort // who serves it, in order

	// Draining are the endpoints that are listed but get no new connections here; those that they have go on.
	Draining []netip.AddrPort

	// Internal is who serves internal sources, pods of this cluster and the node itself, where that is not Reals: the
	// frontends of an external Local policy with endpoints both here and elsewhere. Nil: the same.
	Internal *Internal

	// Rejected reports whether new connections are rejected, since nobody serves them.
	Rejected bool

	// Diverted reports whether the node does not have the address, and packets must be diverted.
	Diverted bool

	// Ranged reports whether the frontend serves only the sources in Ranges, and drops the packets of others.
	Ranged bool
	Ranges []netip.Prefix

	// VIPs are what makes the node take packets for the address.
	VIPs []vip.Item
}

// An Internal is the endpoints of a frontend for internal sources. They are the real servers of an alias of the frontend.
type Internal struct {
	Key      ipvs.Key
	Reals    []netip.AddrPort
	Draining []netip.AddrPort
}

// A Hairpin is an endpoint that may be sent its own packets.
type Hairpin struct {
	Proto ipvs.Protocol
	At    netip.AddrPort
}

// A Health is what a health-check node port answers for a Service.
type Health struct {
	Port           uint16
	LocalEndpoints int // distinct addresses of ready endpoints on this node
}

// Unserved says for which Local policies a Service has endpoints, but none on this node.
type Unserved struct{ Internal, External bool }
