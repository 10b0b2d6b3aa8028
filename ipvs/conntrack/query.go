package conntrack

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// maxDumps bounds the number of a family's frontends that get a dump each. A filtered dump costs the kernel a walk over
// the table but sends next to nothing; beyond this number one dump of everything is cheaper.
const maxDumps = 8

// A query is one dump: the frontends of one family whose flows are wanted, and a filter for the kernel. Flows that pass
// the filter needlessly do no harm: every flow is compared here.
type query struct {
	family inet.Family
	wanted frontends
	only   filter
}

// A filter has the fields common to all wanted flows; a zero field matches any value.
type filter struct {
	dst   netip.Addr
	port  uint16
	proto inet.Protocol
}

// queries returns the dumps that together show all flows of the frontends.
func queries(list []Frontend) (out []query) {
	var v4, v6 []Frontend
	for _, f := range list {
		if f.At.Addr().Is4() {
			v4 = append(v4, f)
		} else {
			v6 = append(v6, f)
		}
	}
	out = appendQueries(out, unix.AF_INET, v4)
	return appendQueries(out, unix.AF_INET6, v6)
}

func appendQueries(out []query, family inet.Family, list []Frontend) []query {
	if len(list) > maxDumps {
		return append(out, query{family: family, wanted: index(list), only: common(list)})
	}
	for i := range list {
		one := list[i : i+1]
		out = append(out, query{family: family, wanted: index(one), only: common(one)})
	}
	return out
}

// common returns the filter for frontends of one family. It never has an IPv6 address: the kernel's comparison is
// inverted there and drops exactly the requested address (ctnetlink_filter_match_tuple in
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

// flags returns the kernel's flags for the fields to compare.
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
func (q query) appendTo(b *netlink.Batch) {
	b.BeginNetfilter(msgGet, unix.NLM_F_DUMP, uint8(q.family))
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
		b.Uint8(protoNum, uint8(f.proto))
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
func appendDelete(b *netlink.Batch, family inet.Family, t tracked) {
	b.BeginNetfilter(msgDelete, 0, uint8(family))
	b.Data(attrOrig|unix.NLA_F_NESTED, t.orig)
	if t.zone != nil {
		b.Data(attrZone, t.zone)
	}
	b.Data(attrID, t.id)
	b.End()
}
