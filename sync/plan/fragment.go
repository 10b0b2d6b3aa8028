package plan

import (
	"net/netip"

	"kube-ipvs/ipvs"
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

	// Hairpins are the local endpoints: packets that one of them sends to itself through a frontend are masqueraded.
	Hairpins []Real

	// Health is the answer of the Service's health-check node port, or nil.
	Health *Health

	// NodePorts says that the fragment depends on the node's addresses.
	NodePorts bool

	// Problems are what could not be used of the Service and its slices.
	Problems []Problem
}

// A Frontend is an address and port at which a Service is reached. Frontends of one Service may share their lists.
type Frontend struct {
	Key       ipvs.Key
	Kind      Kind
	Port      string // the Service port's name
	Server    ipvs.Server
	Treatment Treatment
	Reals     []Real // who serves it, in order

	// Inside is who serves pods of this cluster and the node itself where that differs from Reals: the frontends of
	// an external Local policy. Nil: the same.
	Inside *Inside

	// Ranges are the only sources that the frontend serves, where Ranged.
	Ranged bool
	Ranges []netip.Prefix
}

// An Inside is a second list of real servers behind a frontend, for sources inside the cluster. The Service port's
// frontends of one family share it.
type Inside struct {
	Family netip.Addr // the unspecified address of the family
	Proto  ipvs.Protocol
	Port   uint16
	Reals  []Real
}

// A Real is an endpoint of a frontend.
type Real struct {
	Addr   netip.AddrPort
	Proto  ipvs.Protocol
	Weight uint32 // 0 for an endpoint that only keeps the connections it has
}

// A Health is what a health-check node port answers for a Service.
type Health struct {
	Port           uint16
	LocalEndpoints int // distinct addresses of ready endpoints on this node
}
