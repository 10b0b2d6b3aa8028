package ipset

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// encodeMember appends the attributes of a member. The kernel wants addresses and ports in network order, and flagged
// so.
func encodeMember(b *netlink.Batch, m Member) {
	if !m.Addr.IsValid() {
		encodeAddr(b, attrIP, m.Other.Addr())
		b.Uint8(attrCIDR, uint8(m.Other.Bits()))
		return
	}
	encodeAddr(b, attrIP, m.Addr)
	if m.Proto == 0 {
		return
	}
	b.Uint16BE(attrPort|netOrder, m.Port)
	b.Uint8(attrProto, uint8(m.Proto))
	if !m.Other.IsValid() {
		return
	}
	encodeAddr(b, attrIP2, m.Other.Addr())
	if !m.Other.IsSingleIP() {
		b.Uint8(attrCIDR2, uint8(m.Other.Bits()))
	}
}

func encodeAddr(b *netlink.Batch, typ uint16, a netip.Addr) {
	nest := b.Nest(typ)
	if a.Is4() {
		b.Addr(attrIPv4|netOrder, a)
	} else {
		b.Addr(attrIPv6|netOrder, a)
	}
	b.Unnest(nest)
}

// encodeMark appends the skbinfo extension's mark: value and mask in one number of 64 bits.
func encodeMark(b *netlink.Batch, m Mark) {
	var v [8]byte
	binary.BigEndian.PutUint32(v[:], m.Value)
	binary.BigEndian.PutUint32(v[4:], m.Mask)
	b.Data(attrSkbMark|netOrder, v[:])
}

// parseMember parses one member of a dump of a set of this type. It skips unsupported extensions, such as counters.
func parseMember(a netlink.Attrs, typ Type) (Member, Mark, error) {
	var m Member
	var mark Mark
	var other netip.Addr
	bits, net := -1, -1
	for a.Next() {
		var err error
		switch a.Type() {
		case attrIP:
			m.Addr, err = parseAddr(a.Nested())
		case attrIP2:
			other, err = parseAddr(a.Nested())
		case attrCIDR:
			net = int(a.Uint8())
		case attrCIDR2:
			bits = int(a.Uint8())
		case attrPort:
			m.Port = a.Uint16BE()
		case attrProto:
			m.Proto = inet.Protocol(a.Uint8())
		case attrSkbMark:
			mark, err = parseMark(a.Data())
		}
		if err != nil {
			return Member{}, Mark{}, err
		}
	}
	if a.Err() != nil || m.Addr.IsValid() == (typ == BitmapPort) {
		return Member{}, Mark{}, fmt.Errorf("member: %w", netlink.ErrMalformed)
	}
	if net >= 0 {
		m.Addr, other, bits = netip.Addr{}, m.Addr, net
	}
	if other.IsValid() {
		if bits < 0 {
			bits = other.BitLen()
		}
		if m.Other = netip.PrefixFrom(other, bits); !m.Other.IsValid() {
			return Member{}, Mark{}, fmt.Errorf("member with a prefix length of %d: %w", bits, netlink.ErrMalformed)
		}
	}
	return m, mark, nil
}

// parseAddr parses an address, whose type gives its family.
func parseAddr(a netlink.Attrs) (netip.Addr, error) {
	if a.Next() {
		v4 := a.Type() == attrIPv4 && len(a.Data()) == 4
		v6 := a.Type() == attrIPv6 && len(a.Data()) == 16
		if v4 || v6 {
			return a.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("address: %w", netlink.ErrMalformed)
}

func parseMark(p []byte) (Mark, error) {
	if len(p) != 8 {
		return Mark{}, fmt.Errorf("mark of %d bytes: %w", len(p), netlink.ErrMalformed)
	}
	return Mark{Value: binary.BigEndian.Uint32(p), Mask: binary.BigEndian.Uint32(p[4:])}, nil
}
