package loop

import (
	"encoding/binary"
	"net/netip"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// Tables of what is wanted of the kernel and what it is known to hold.
type tables struct {
	vips     *delta.Table[vip.Item, struct{}]
	members  map[string]*delta.Table[ipset.Member, ipset.Mark] // by set
	servers  *delta.Table[ipvs.Key, ipvs.Server]
	reals    *delta.Table[ipvs.RealKey, ipvs.Real]
	marks    plan.Marks
	families map[ipset.Family]plan.Sets
}

func newTables(marks plan.Marks, families []ipset.Family) *tables {
	t := &tables{
		vips:     delta.New[vip.Item, struct{}](),
		members:  map[string]*delta.Table[ipset.Member, ipset.Mark]{},
		servers:  delta.New[ipvs.Key, ipvs.Server](),
		reals:    delta.New[ipvs.RealKey, ipvs.Real](),
		marks:    marks,
		families: map[ipset.Family]plan.Sets{},
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
	member := memberOf(fe.Key)
	c.server(fe.Key, fe.Server, fe.Reals, c.inside(x, sets, member))
	c.ranges(fe, sets, member)
	for _, item := range fe.VIPs {
		claim(c.drop, c.vips, item, struct{}{})
		if item.Kind == vip.Address {
			c.member(sets.Addresses, ipset.Member{Addr: item.Prefix.Addr()}, ipset.Mark{})
		}
	}
	c.member(sets.Frontends, member, c.marks.Of(fe.Treatment))
}

// inside claims a frontend's second list, and returns its mark. Where the numbers are used up the frontend goes on with
// its first list for everybody: fewer endpoints for sources inside, and none that is wrong for those outside.
func (c claimer) inside(x claimed, sets plan.Sets, member ipset.Member) ipset.Mark {
	in := x.fe.Inside
	if in == nil || x.by.numbers[in.Key] == 0 {
		return ipset.Mark{}
	}
	mark := ipset.Mark{Value: c.marks.Number(x.by.numbers[in.Key]), Mask: ^uint32(0)}
	c.server(ipvs.MarkKey(mark.Value, in.Key.Family), in.Server, in.Reals, mark)
	c.member(sets.Inside, member, mark)
	return mark
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

// server claims a virtual server with its line in the ledger, and its real servers. The mark in the line is the number of
// the second list that the server is, or that the frontend has.
func (c claimer) server(key ipvs.Key, server ipvs.Server, reals []netip.AddrPort, number ipset.Mark) {
	c.member(c.sets(key.Addr).Owned, lineOf(key), number)
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
		c.member(c.sets(at.Addr()).Probed, ipset.Member{Addr: at.Addr(), Proto: uint8(ipvs.TCP), Port: at.Port()}, ipset.Mark{})
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

// lineOf is a virtual server's line in the ledger: its frontend, or its mark written as an address. What tells them apart
// is that marks have port 0, and frontends have not.
func lineOf(k ipvs.Key) ipset.Member {
	if k.Mark == 0 {
		return memberOf(k)
	}
	var b [16]byte
	binary.BigEndian.PutUint32(b[12:], k.Mark)
	a := netip.AddrFrom16(b)
	if k.Addr.Is4() {
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	return ipset.Member{Addr: a, Proto: uint8(ipvs.TCP)}
}

// serverOf is the virtual server that a line in the ledger stands for.
func serverOf(m ipset.Member) ipvs.Key {
	if m.Port != 0 {
		return keyOf(m)
	}
	b := m.Addr.As16()
	return ipvs.MarkKey(binary.BigEndian.Uint32(b[12:]), m.Addr)
}

// memberOf is the member that stands for a frontend in the sets.
func memberOf(k ipvs.Key) ipset.Member {
	return ipset.Member{Addr: k.Addr, Proto: uint8(k.Proto), Port: k.Port}
}

// keyOf is the frontend that a member stands for.
func keyOf(m ipset.Member) ipvs.Key {
	return ipvs.Key{Addr: m.Addr, Proto: ipvs.Protocol(m.Proto), Port: m.Port}
}
