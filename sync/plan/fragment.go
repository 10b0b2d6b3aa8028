package plan

import (
	"cmp"
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

	// Inside is who serves pods of this cluster and the node itself, where that is not Reals: the frontends of an
	// external Local policy with endpoints both here and elsewhere. Nil: the same.
	Inside *Inside

	// Ranged says that the frontend serves only the sources in Ranges, and drops the packets of others.
	Ranged bool
	Ranges []netip.Prefix

	// VIPs are what makes the node take packets for the address.
	VIPs []vip.Item
}

// An Inside is a second list of real servers behind a Service port's frontends of one family, for sources inside the
// cluster. IPVS finds it by a firewall mark.
type Inside struct {
	Key      InsideKey
	Server   ipvs.Server
	Reals    []netip.AddrPort
	Draining []netip.AddrPort
}

// An InsideKey identifies an Inside.
type InsideKey struct {
	Service Name
	Proto   ipvs.Protocol
	Port    uint16
	Family  netip.Addr // the unspecified address of the family
}

// Compare orders keys by Service, protocol, port and family.
func (k InsideKey) Compare(o InsideKey) int {
	return cmp.Or(k.Service.Compare(o.Service), cmp.Compare(k.Proto, o.Proto), cmp.Compare(k.Port, o.Port), k.Family.Compare(o.Family))
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
