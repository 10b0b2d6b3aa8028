package plan

import "kube-ipvs/ipset"

// Sets are the IP sets of one family. They are cut by what happens to a packet, never by a Service's type.
type Sets struct {
	Owned     ipset.Set // a ledger that no rule reads: every frontend whose server may be in IPVS is ours, and its number
	Frontends ipset.Set // address and port of every frontend, with its treatment: being a member turns it on
	Inside    ipset.Set // those with a second list for sources inside, with its number
	Ranged    ipset.Set // those that only some sources may use
	Allowed   ipset.Set // and these sources
	Hairpins  ipset.Set // endpoints that may be sent their own packets
	Addresses ipset.Set // in bind mode: addresses on the link
	Probed    ipset.Set // where health-check node ports are asked
}

// SetsOf returns the definitions of a family's sets.
func SetsOf(family ipset.Family) Sets {
	prefix := SetPrefix
	if family == ipset.IPv6 {
		prefix += "6-"
	}
	set := func(name string, of ipset.Type, marks bool) ipset.Set {
		return ipset.Set{Name: prefix + name, Type: of, Family: family, Marks: marks}
	}
	return Sets{
		Owned:     set("OWNED", ipset.HashIPPort, true),
		Frontends: set("FRONTENDS", ipset.HashIPPort, true),
		Inside:    set("INSIDE", ipset.HashIPPort, true),
		Ranged:    set("RANGED", ipset.HashIPPort, false),
		Allowed:   set("ALLOWED", ipset.HashIPPortNet, false),
		Hairpins:  set("HAIRPINS", ipset.HashIPPortIP, false),
		Addresses: set("ADDRESSES", ipset.HashIP, false),
		Probed:    set("PROBED", ipset.HashIPPort, false),
	}
}

// SetPrefix begins the name of every set of ours; a set is ours by nothing else.
const SetPrefix = "KIPVS-"

// All returns the sets in the order in which their members are added: what protects or serves a frontend stands before
// the frontend is turned on. They are emptied in reverse.
func (s Sets) All() []ipset.Set {
	return []ipset.Set{s.Owned, s.Addresses, s.Allowed, s.Ranged, s.Hairpins, s.Probed, s.Inside, s.Frontends}
}
