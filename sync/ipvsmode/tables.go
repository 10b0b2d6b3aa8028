package ipvsmode

import (
	"fmt"
	"net/netip"
	"slices"

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

// An alias records its owner, a frontend. Two addresses may have the same alias (it has their last bytes): the first to need it gets
// it, and the other serves internal sources with the endpoints on this node until it is free. The owner of an unused alias is remembered
// until then.
type alias struct {
	of      ipvs.Key
	users   []*plan.Frontend // states of the frontend that need it
	waiting []*plan.Frontend // states of other frontends that need it
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

// alias adds a frontend's state to those that use an alias or wait for it, or drops it. It reports whether the frontend has the alias,
// or had it.
func (r refs) alias(fe *plan.Frontend) bool {
	key, of := AliasKey(fe.Address), KeyOf(fe.Address)
	if r.drop {
		return r.giveBack(key, fe)
	}
	r.remember()
	a := r.aliases[key]
	if a == nil {
		a = &alias{of: of}
		r.aliases[key] = a
	}
	if a.of != of {
		a.waiting = append(a.waiting, fe)
		return false
	}
	a.users = append(a.users, fe)
	delete(r.unused, key)
	return true
}

func (t *tables) giveBack(key ipvs.Key, fe *plan.Frontend) bool {
	a := t.aliases[key]
	if i := slices.Index(a.waiting, fe); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		return false
	}
	i := slices.Index(a.users, fe)
	a.users = slices.Delete(a.users, i, i+1)
	if len(a.users) == 0 {
		t.unused[key] = a
	}
	return true
}

// remember reads the aliases' owners before a restart from the sets, once, before any is used.
func (t *tables) remember() {
	if t.remembers {
		return
	}
	t.remembers = true
	for _, sets := range t.families {
		for m := range t.members[sets.Internal.Name].All() {
			of := MemberKey(m)
			if key := AliasKey(AddressOf(of)); t.aliases[key] == nil {
				a := &alias{of: of}
				t.aliases[key], t.unused[key] = a, a
			}
		}
	}
}

// aliasOf returns the frontend of an alias's virtual server. If a restart forgot that, it searches the frontends that are on; the zero
// Key means that none has it.
func (t *tables) aliasOf(k ipvs.Key) (of ipvs.Key, isAlias bool) {
	if !inAliases(k) {
		return ipvs.Key{}, false
	}
	if a := t.aliases[k]; a != nil {
		return a.of, true
	}
	for m := range t.members[t.sets(k.Addr).Internal.Name].All() {
		if of := MemberKey(m); AliasKey(AddressOf(of)) == k {
			return of, true
		}
	}
	return ipvs.Key{}, true
}

// inAliases reports whether a virtual server is an alias.
func inAliases(k ipvs.Key) bool { return AliasRange(inet.FamilyOf(k.Addr)).Contains(k.Addr) }

// hasAlias reports whether a frontend's internal endpoints are, or may be, real servers of its alias.
func (t *tables) hasAlias(fe *plan.Frontend) bool {
	if fe.Internal == nil {
		return false
	}
	a := t.aliases[AliasKey(fe.Address)]
	return a != nil && len(a.users) > 0 && a.of == KeyOf(fe.Address)
}

// aliasTaken returns the message for a frontend whose alias another one has.
func (t *tables) aliasTaken(fe *plan.Frontend) string {
	of, _ := t.aliasOf(AliasKey(fe.Address))
	return fmt.Sprintf("pods and nodes get the endpoints on this node only: %v, another address with a Local policy, ends with the same bytes", of.AddrPort())
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
