package ipvsmode

import (
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// Tables of the kernel's desired and known state.
type tables struct {
	routing  *delta.Table[steering.Item, netip.Addr]           // with the sources of local routes
	bound    *delta.Table[steering.Item, netip.Addr]           // addresses
	members  map[string]*delta.Table[ipset.Member, ipset.Mark] // by set
	servers  *delta.Table[ipvs.Key, ipvs.Server]
	reals    *delta.Table[ipvs.RealKey, ipvs.Real]
	draining *drains
	marks    Marks
	bind     bool // service addresses are put on the link
	families map[inet.Family]Sets
	policies map[inet.Family][]steering.Item // what diverted packets need
	sources  map[inet.Family]netip.Addr      // of the node's own packets
	aliases  map[ipvs.Key]*alias
	unused   map[ipvs.Key]*alias // those of aliases that have no users

	remembers bool // the owners of aliases before a restart
}

func newTables(marks Marks, bind bool, families []inet.Family) *tables {
	t := &tables{
		routing:  delta.New[steering.Item, netip.Addr](),
		bound:    delta.New[steering.Item, netip.Addr](),
		members:  map[string]*delta.Table[ipset.Member, ipset.Mark]{},
		servers:  delta.New[ipvs.Key, ipvs.Server](),
		reals:    delta.New[ipvs.RealKey, ipvs.Real](),
		draining: newDrains(),
		marks:    marks,
		bind:     bind,
		families: map[inet.Family]Sets{},
		policies: map[inet.Family][]steering.Item{},
		sources:  map[inet.Family]netip.Addr{},
		aliases:  map[ipvs.Key]*alias{},
		unused:   map[ipvs.Key]*alias{},
	}
	for _, f := range families {
		t.families[f], t.policies[f] = SetsOf(f), steering.Policies(everything(f), marks.Divert, marks.Own)
		for _, set := range t.families[f].All() {
			t.members[set.Name] = delta.New[ipset.Member, ipset.Mark]()
		}
		reject := ipvs.AddrKey(inet.TCP, RejectTCP(f))
		t.aliases[reject] = &alias{of: reject}
	}
	return t
}

// Refs add a frontend's references to kernel objects, or drop them: both walk the same objects.
type refs struct {
	*tables
	drop bool
}

func refer[K, V comparable](drop bool, t *delta.Table[K, V], key K, value V) {
	switch {
	case t == nil: // a family that this node does not have
	case drop:
		t.Drop(key)
	default:
		t.Want(key, value)
	}
}

// frontend refers to all objects of a frontend.
func (r refs) frontend(fe *plan.Frontend) {
	sets, ok := r.families[inet.FamilyOf(fe.Addr)]
	if !ok {
		return
	}
	key, server, none := KeyOf(fe.Address), ServerOf(fe), ipset.Mark{}
	member := MemberOf(key)
	r.server(key, server, fe.Backends)
	r.ranges(fe, sets, member)
	for _, item := range ItemsOf(fe, r.bind) {
		r.item(item)
	}
	r.member(sets.Frontends, member, r.marks.Of(TreatmentOf(fe)))
	if fe.Rejected {
		r.member(sets.Rejected, member, none)
	}
	if IsDiverted(fe, r.bind) {
		r.member(sets.External, member, none)
		// A first rule of anybody makes every packet's routing look at rules, and search the local table and the main one apart.
		for _, rule := range r.policies[inet.FamilyOf(fe.Addr)] {
			r.item(rule)
		}
	}
	if in := fe.Internal; in != nil && r.alias(fe) {
		r.server(AliasKey(fe.Address), server, in.Backends)
		r.member(sets.Internal, member, none)
	}
}

// item refers to a route or address that delivers a frontend's packets to the node. A prefix that is delivered to this host by address
// alone is also a network in which all other packets are rejected.
func (r refs) item(item steering.Item) {
	source, table := netip.Addr{}, r.routing
	switch item.Kind {
	case steering.Local:
		source = r.sources[inet.FamilyOf(item.Prefix.Addr())]
		r.network(item.Prefix)
	case steering.Address:
		table = r.bound
		r.member(r.sets(item.Prefix.Addr()).Addresses, ipset.Member{Addr: item.Prefix.Addr()}, ipset.Mark{})
		r.network(item.Prefix)
	}
	refer(r.drop, table, item, source)
}

// network refers to the members that keep a network's packets from all but frontends.
func (r refs) network(p netip.Prefix) {
	sets := r.sets(p.Addr())
	r.member(sets.Local, ipset.Member{Other: p}, ipset.Mark{})
	r.member(sets.Closed, ipset.Member{Other: p}, ipset.Mark{})
}

// cidrs refers to the delivery of the service CIDRs of this node's families.
func (r refs) cidrs(list []netip.Prefix) {
	for _, p := range list {
		if r.has(p.Addr()) {
			r.item(steering.Item{Kind: steering.Local, Prefix: p})
		}
	}
}

func (r refs) ranges(fe *plan.Frontend, sets Sets, member ipset.Member) {
	if !fe.Restricted {
		return
	}
	r.member(sets.Ranged, member, ipset.Mark{})
	for _, prefix := range fe.SourceRanges {
		allowed := member
		allowed.Other = prefix
		r.member(sets.Allowed, allowed, ipset.Mark{})
	}
}

// server refers to a virtual server with its ownership record, and its real servers.
func (r refs) server(key ipvs.Key, server ipvs.Server, reals []netip.AddrPort) {
	r.member(r.sets(key.Addr).Owned, MemberOf(key), ipset.Mark{})
	refer(r.drop, r.servers, key, server)
	for _, at := range reals {
		k := ipvs.RealKeyOf(key, at)
		refer(r.drop, r.reals, k, ipvs.Real{Weight: 1})
		if !r.drop {
			r.draining.forget(k)
		}
	}
}

// service refers to the hairpins of a Service's endpoints, and the addresses of its health-check node port.
func (r refs) service(s *plan.Desired) {
	if s == nil {
		return
	}
	for _, h := range s.Hairpins {
		r.member(r.sets(h.At.Addr()).Hairpins, hairpin(h.At, h.Protocol), ipset.Mark{})
	}
	for _, at := range s.HealthChecks {
		r.member(r.sets(at.Addr()).Health, ipset.Member{Addr: at.Addr(), Proto: inet.TCP, Port: at.Port()}, ipset.Mark{})
	}
}

// hairpin is the member of an endpoint that may be sent its own packets.
func hairpin(at netip.AddrPort, proto inet.Protocol) ipset.Member {
	return ipset.Member{Addr: at.Addr(), Proto: proto, Port: at.Port(), Other: netip.PrefixFrom(at.Addr(), at.Addr().BitLen())}
}

func (r refs) member(set ipset.Set, m ipset.Member, mark ipset.Mark) {
	refer(r.drop, r.members[set.Name], m, mark)
}

func (t *tables) sets(a netip.Addr) Sets { return t.families[inet.FamilyOf(a)] }

// has reports whether this node has an address's family.
func (t *tables) has(a netip.Addr) bool {
	_, ok := t.families[inet.FamilyOf(a)]
	return ok
}

// owned returns the ownership records of an address's family, or nil.
func (t *tables) owned(a netip.Addr) *delta.Table[ipset.Member, ipset.Mark] {
	return t.members[t.sets(a).Owned.Name]
}
