package ipvsmode

import (
	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// Sets are the IP sets of one family. They are divided by the verdict on a packet, never by a Service's type.
type Sets struct {
	Owned     ipset.Set // ownership records of virtual servers; no rule reads it
	Frontends ipset.Set // address and port of every frontend, with its treatment
	External  ipset.Set // frontends with diverted packets; membership turns diversion on
	Internal  ipset.Set // frontends with an alias for internal sources
	Rejected  ipset.Set // frontends that take no new connections
	Ranged    ipset.Set // frontends for some sources only
	Allowed   ipset.Set // and these sources
	Hairpins  ipset.Set // endpoints that may be sent their own packets
	Local     ipset.Set // networks delivered to this host for frontends: nothing else may get their packets
	Closed    ipset.Set // the same when their frontends are on: all else there is rejected, whoever would serve it
	Addresses ipset.Set // in bind mode: addresses on the link, which answer pings
	Health    ipset.Set // addresses and ports of health-check node ports
}

// SetsOf returns the definitions of a family's sets.
func SetsOf(family inet.Family) Sets {
	prefix := SetPrefix
	if family == inet.IPv6 {
		prefix += "6-"
	}
	set := func(name string, of ipset.Type, marks bool) ipset.Set {
		return ipset.Set{Name: prefix + name, Type: of, Family: family, Marks: marks}
	}
	return Sets{
		Owned:     set("OWNED", ipset.HashIPPort, false),
		Frontends: set("FRONTENDS", ipset.HashIPPort, true),
		External:  set("EXTERNAL", ipset.HashIPPort, false),
		Internal:  set("INTERNAL", ipset.HashIPPort, false),
		Rejected:  set("REJECTED", ipset.HashIPPort, false),
		Ranged:    set("RANGED", ipset.HashIPPort, false),
		Allowed:   set("ALLOWED", ipset.HashIPPortNet, false),
		Hairpins:  set("HAIRPINS", ipset.HashIPPortIP, false),
		Local:     set("LOCAL", ipset.HashNet, false),
		Closed:    set("CLOSED", ipset.HashNet, false),
		Addresses: set("ADDRESSES", ipset.HashIP, false),
		Health:    set("HEALTH", ipset.HashIPPort, false),
	}
}

// SetPrefix begins the name of every owned set, and alone makes it owned.
const SetPrefix = "KIPVS-"

// All returns the sets in the order of docs/architecture.md. The order in which they are filled is that of the layers.
func (s Sets) All() []ipset.Set {
	return []ipset.Set{s.Owned, s.Local, s.Addresses, s.Allowed, s.Ranged, s.Hairpins, s.Health, s.Rejected, s.Frontends, s.Internal, s.External, s.Closed}
}
