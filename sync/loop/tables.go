package loop

import (
	"net/netip"
	"slices"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// Tables of what is wanted of the kernel and what it is known to hold.
type tables struct {
	vips     *delta.Table[vip.Item, netip.Addr]                // with the sources of those that are local
	bound    *delta.Table[vip.Item, netip.Addr]                // addresses
	members  map[string]*delta.Table[ipset.Member, ipset.Mark] // by set
	servers  *delta.Table[ipvs.Key, ipvs.Server]
	reals    *delta.Table[ipvs.RealKey, ipvs.Real]
	marks    plan.Marks
	families map[ipset.Family]plan.Sets
	sources  map[ipset.Family]netip.Addr // with which the node asks
	aliases  map[ipvs.Key]*alias

	remembers bool        // whose aliases were before a restart
	freed     []plan.Name // who waited for an alias that is free now
}

// An alias is a frontend that has one. Two addresses may have the same alias (it has their last bytes): the first that comes has it, and
// the other serves internal sources with the endpoints on this node until it is free.
type alias struct {
	of      ipvs.Key
	claims  []*plan.Frontend // the states of the frontend that want it; nil: none
	waiting []plan.Name      // whose other frontends would have it
}

func newTables(marks plan.Marks, families []ipset.Family) *tables {
	t := &tables{
		vips:     delta.New[vip.Item, netip.Addr](),
		bound:    delta.New[vip.Item, netip.Addr](),
		members:  map[string]*delta.Table[ipset.Member, ipset.Mark]{},
		servers:  delta.New[ipvs.Key, ipvs.Server](),
		reals:    delta.New[ipvs.RealKey, ipvs.Real](),
		marks:    marks,
		families: map[ipset.Family]plan.Sets{},
		sources:  map[ipset.Family]netip.Addr{},
		aliases:  map[ipvs.Key]*alias{},
	}
	for _, f := range families {
		t.families[f] = plan.SetsOf(f)
		for _, set := range t.families[f].All() {
			t.members[set.Name] = delta.New[ipset.Member, ipset.Mark]()
		}
	}
	return t
}

// A claimer takes objects for a frontend, or gives them back: adding and dropping walk the same objects.
type claimer struct {
	*tables
	drop bool
}

func claim[K, V comparable](drop bool, t *delta.Table[K, V], key K, value V) {
	switch {
	case t == nil: // a family that this node does not have
	case drop:
		t.Drop(key)
	default:
		t.Want(key, value)
	}
}

// frontend claims all that a frontend consists of.
func (c claimer) frontend(x claimed) {
	fe := x.fe
	sets, ok := c.families[ipset.FamilyOf(fe.Key.Addr)]
	if !ok {
		return
	}
	member, none := memberOf(fe.Key), ipset.Mark{}
	c.server(fe.Key, fe.Server, fe.Reals)
	c.ranges(fe, sets, member)
	for _, item := range fe.VIPs {
		c.vip(item, sets)
	}
	c.member(sets.Frontends, member, c.marks.Of(fe.Treatment))
	if fe.Rejected {
		c.member(sets.Rejected, member, none)
	}
	if fe.Diverted {
		c.member(sets.External, member, none)
	}
	if in := fe.Internal; in != nil && c.alias(x) {
		c.server(in.Key, fe.Server, in.Reals)
		c.member(sets.Internal, member, none)
	}
}

// vip claims what makes the node take packets for a frontend's address. What is delivered to this host by its address alone is also a
// network in which everything else is rejected.
func (c claimer) vip(item vip.Item, sets plan.Sets) {
	source, table := netip.Addr{}, c.vips
	switch item.Kind {
	case vip.Local:
		source = c.sources[ipset.FamilyOf(item.Prefix.Addr())]
		c.member(sets.Local, ipset.Member{Other: item.Prefix}, ipset.Mark{})
	case vip.Address:
		table = c.bound
		c.member(sets.Addresses, ipset.Member{Addr: item.Prefix.Addr()}, ipset.Mark{})
		c.member(sets.Local, ipset.Member{Other: item.Prefix}, ipset.Mark{})
	}
	claim(c.drop, table, item, source)
}

// alias claims an alias for a frontend, or gives it back. It reports whether the frontend has it, or had it. Whose it was is remembered
// as long as the kernel may have its virtual server: others' packets may be on their way there.
func (c claimer) alias(x claimed) bool {
	key := x.fe.Internal.Key
	if c.drop {
		return c.giveBack(key, x.fe)
	}
	c.remember()
	_, served := c.servers.Known(key)
	a := c.aliases[key]
	switch {
	case a == nil || a.of != x.fe.Key && a.claims == nil && !served:
		a = &alias{of: x.fe.Key}
		c.aliases[key] = a
	case a.of != x.fe.Key:
		a.waiting = append(a.waiting, x.by.fragment.Service)
		return false
	}
	a.claims = append(a.claims, x.fe)
	return true
}

func (t *tables) giveBack(key ipvs.Key, fe *plan.Frontend) bool {
	a := t.aliases[key]
	if a == nil {
		return false
	}
	i := slices.Index(a.claims, fe)
	if i < 0 {
		return false
	}
	if a.claims = slices.Delete(a.claims, i, i+1); len(a.claims) == 0 {
		a.claims = nil
		t.forgetAlias(key)
	}
	return true
}

// forgetAlias forgets whose an alias was, if nobody has it any more. Those who waited for it may have it.
func (t *tables) forgetAlias(key ipvs.Key) {
	a := t.aliases[key]
	if _, served := t.servers.Known(key); a == nil || served || a.claims != nil {
		return
	}
	t.freed = append(t.freed, a.waiting...)
	delete(t.aliases, key)
}

// remember takes whose the aliases were before a restart from the sets, once, before any is claimed.
func (t *tables) remember() {
	if t.remembers {
		return
	}
	t.remembers = true
	for _, sets := range t.families {
		for m := range t.members[sets.Internal.Name].All() {
			key := keyOf(m)
			key.Addr = plan.Alias(key.Addr)
			if t.aliases[key] == nil {
				t.aliases[key] = &alias{of: keyOf(m)}
			}
		}
	}
}

// aliasOf returns the frontend whose alias a virtual server is. It looks for it among those that are on where that was forgotten with
// a restart; the zero Key: none is.
func (t *tables) aliasOf(k ipvs.Key) (of ipvs.Key, isAlias bool) {
	if !inAliases(k) {
		return ipvs.Key{}, false
	}
	if a := t.aliases[k]; a != nil {
		return a.of, true
	}
	for m := range t.members[t.sets(k.Addr).Internal.Name].All() {
		if of := keyOf(m); of.Port == k.Port && of.Proto == k.Proto && plan.Alias(of.Addr) == k.Addr {
			return of, true
		}
	}
	return ipvs.Key{}, true
}

// inAliases reports whether a virtual server is an alias.
func inAliases(k ipvs.Key) bool { return plan.AliasRange(ipset.FamilyOf(k.Addr)).Contains(k.Addr) }

// hasAlias reports whether a frontend's internal endpoints are, or may be, real servers of its alias.
func (t *tables) hasAlias(fe *plan.Frontend) bool {
	if fe.Internal == nil {
		return false
	}
	a := t.aliases[fe.Internal.Key]
	return a != nil && a.claims != nil && a.of == fe.Key
}

// aliasTakenBy returns the frontend that has the alias that another would have.
func (t *tables) aliasTakenBy(fe *plan.Frontend) ipvs.Key {
	of, _ := t.aliasOf(fe.Internal.Key)
	return of
}

func (c claimer) ranges(fe *plan.Frontend, sets plan.Sets, member ipset.Member) {
	if !fe.Ranged {
		return
	}
	c.member(sets.Ranged, member, ipset.Mark{})
	for _, r := range fe.Ranges {
		allowed := member
		allowed.Other = r
		c.member(sets.Allowed, allowed, ipset.Mark{})
	}
}

// server claims a virtual server with its ownership record, and its real servers.
func (c claimer) server(key ipvs.Key, server ipvs.Server, reals []netip.AddrPort) {
	c.member(c.sets(key.Addr).Owned, memberOf(key), ipset.Mark{})
	claim(c.drop, c.servers, key, server)
	for _, at := range reals {
		claim(c.drop, c.reals, ipvs.RealKeyOf(key, at), ipvs.Real{Weight: 1})
	}
}

// hairpins claims the endpoints of a Service that may be sent their own packets.
func (c claimer) hairpins(s *service) {
	if s == nil {
		return
	}
	for _, h := range s.fragment.Hairpins {
		addr := h.At.Addr()
		c.member(c.sets(addr).Hairpins, ipset.Member{
			Addr: addr, Proto: uint8(h.Proto), Port: h.At.Port(), Other: netip.PrefixFrom(addr, addr.BitLen()),
		}, ipset.Mark{})
	}
}

// probed claims where a Service's health-check node port is asked.
func (c claimer) probed(s *service) {
	if s == nil {
		return
	}
	for _, at := range s.fragment.Probed {
		c.member(c.sets(at.Addr()).Health, ipset.Member{Addr: at.Addr(), Proto: uint8(ipvs.TCP), Port: at.Port()}, ipset.Mark{})
	}
}

func (c claimer) member(set ipset.Set, m ipset.Member, mark ipset.Mark) {
	claim(c.drop, c.members[set.Name], m, mark)
}

func (t *tables) sets(a netip.Addr) plan.Sets { return t.families[ipset.FamilyOf(a)] }

// has says that this node has an address's family.
func (t *tables) has(a netip.Addr) bool {
	_, ok := t.families[ipset.FamilyOf(a)]
	return ok
}

// ledger is the ledger of an address's family, or nil.
func (t *tables) ledger(a netip.Addr) *delta.Table[ipset.Member, ipset.Mark] {
	return t.members[t.sets(a).Owned.Name]
}

// memberOf is the member that stands for a frontend in the sets.
func memberOf(k ipvs.Key) ipset.Member {
	return ipset.Member{Addr: k.Addr, Proto: uint8(k.Proto), Port: k.Port}
}

// keyOf is the frontend that a member stands for.
func keyOf(m ipset.Member) ipvs.Key {
	return ipvs.Key{Addr: m.Addr, Proto: ipvs.Protocol(m.Proto), Port: m.Port}
}
