package conntrack

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// maxDumps is how many frontends of a family are asked for one by one. A filtered dump costs the kernel a walk over the
// table but sends next to nothing; beyond this number one dump of everything is cheaper.
const maxDumps = 8

// A question is one dump: the frontends of one family whose flows are wanted, and what the kernel may leave out. What
// it sends beyond that does no harm: every flow is compared here.
type question struct {
	family uint8
	wanted frontends
	only   filter
}

// A filter is what all wanted flows have in common; a zero field is no limit.
type filter struct {
	dst   netip.Addr
	port  uint16
	proto uint8
}

// questions returns the dumps that show all flows of the frontends.
func questions(list []Frontend) (out []question) {
	var v4, v6 []Frontend
	for _, f := range list {
		if f.At.Addr().Is4() {
			v4 = append(v4, f)
		} else {
			v6 = append(v6, f)
		}
	}
	out = appendQuestions(out, unix.AF_INET, v4)
	return appendQuestions(out, unix.AF_INET6, v6)
}

func appendQuestions(out []question, family uint8, list []Frontend) []question {
	if len(list) > maxDumps {
		return append(out, question{family: family, wanted: index(list), only: common(list)})
	}
	for i := range list {
		one := list[i : i+1]
		out = append(out, question{family: family, wanted: index(one), only: common(one)})
	}
	return out
}

// common returns the filter for frontends of one family. It never has an IPv6 address: the kernel's comparison is
// inverted there, so that it leaves out the very address that was asked for (ctnetlink_filter_match_tuple in
// net/netfilter/nf_conntrack_netlink.c, up to Linux 7.2 at least). A port is compared only together with a protocol.
func common(list []Frontend) filter {
	f := filter{dst: list[0].At.Addr(), port: list[0].At.Port(), proto: list[0].Proto}
	for _, other := range list[1:] {
		if other.Proto != f.proto {
			f.proto = 0
		}
		if other.At.Port() != f.port {
			f.port = 0
		}
		if other.At.Addr() != f.dst {
			f.dst = netip.Addr{}
		}
	}
	if !f.dst.Is4() {
		f.dst = netip.Addr{}
	}
	if f.proto == 0 {
		f.port = 0
	}
	return f
}

// flags says which fields the kernel is to compare.
func (f filter) flags() (flags uint32) {
	if f.dst.IsValid() {
		flags |= filterAddrDst
	}
	if f.proto != 0 {
		flags |= filterProto
	}
	if f.port != 0 {
		flags |= filterPortDst
	}
	return flags
}

// appendTo encodes the dump.
func (q question) appendTo(b *netlink.Batch) {
	begin(b, msgGet, unix.NLM_F_DUMP, q.family)
	if q.only != (filter{}) {
		q.only.appendTo(b)
	}
	b.End()
}

func (f filter) appendTo(b *netlink.Batch) {
	orig := b.Nest(attrOrig)
	if f.dst.IsValid() {
		ip := b.Nest(tupleIP)
		b.Addr(ipV4Dst, f.dst)
		b.Unnest(ip)
	}
	if f.proto != 0 {
		proto := b.Nest(tupleProto)
		b.Uint8(protoNum, f.proto)
		if f.port != 0 {
			b.Uint16BE(protoDst, f.port)
		}
		b.Unnest(proto)
	}
	b.Unnest(orig)
	nest := b.Nest(attrFilter)
	b.Uint32(filterOrig, f.flags())
	b.Unnest(nest)
}

// appendDelete encodes the deletion of one flow.
func appendDelete(b *netlink.Batch, family uint8, t tracked) {
	begin(b, msgDelete, 0, family)
	b.Data(attrOrig|unix.NLA_F_NESTED, t.orig)
	if t.zone != nil {
		b.Data(attrZone, t.zone)
	}
	b.Data(attrID, t.id)
	b.End()
}

func begin(b *netlink.Batch, typ, flags uint16, family uint8) {
	b.Begin(typ, flags)
	b.Raw(family, unix.NFNETLINK_V0, 0, 0)
}
