package main

import (
	"encoding/binary"
	"net"
	"net/netip"

	"kube-ipvs/ipvs"
)

// A lane is the link from a pod to its node: a frame's first and second address.
type lane struct{ node, pod net.HardwareAddr }

// A segment is a packet of TCP or a datagram of UDP, of IPv4, without payload.
type segment struct {
	proto    ipvs.Protocol
	from, to netip.AddrPort
	flags    byte // of TCP
	seq, ack uint32
}

// Flags of TCP.
const (
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// frame returns the segment as the pod sends it to its node. UDP has no checksum, which IPv4 allows.
func (l lane) frame(s segment) []byte {
	const ethernet, ip = 14, 20
	transport := s.transport()
	f := make([]byte, ethernet+ip, ethernet+ip+len(transport))
	copy(f, l.node)
	copy(f[6:], l.pod)
	binary.BigEndian.PutUint16(f[12:], 0x0800) // IPv4
	h := f[ethernet:]
	h[0], h[8], h[9] = 0x45, 64, byte(s.proto)
	binary.BigEndian.PutUint16(h[2:], uint16(ip+len(transport)))
	copy(h[12:], s.from.Addr().AsSlice())
	copy(h[16:], s.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(0, h))
	return append(f, transport...)
}

func (s segment) transport() []byte {
	if s.proto == ipvs.UDP {
		const size = 8
		h := make([]byte, size)
		s.ports(h)
		h[5] = size
		return h
	}
	const size = 20
	h := make([]byte, size)
	s.ports(h)
	binary.BigEndian.PutUint32(h[4:], s.seq)
	binary.BigEndian.PutUint32(h[8:], s.ack)
	h[12], h[13] = size/4<<4, s.flags
	binary.BigEndian.PutUint16(h[14:], 1<<15) // the window
	pseudo := append(s.from.Addr().AsSlice(), s.to.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, byte(s.proto), 0, size)
	binary.BigEndian.PutUint16(h[16:], checksum(sum(0, pseudo), h))
	return h
}

func (s segment) ports(h []byte) {
	binary.BigEndian.PutUint16(h, s.from.Port())
	binary.BigEndian.PutUint16(h[2:], s.to.Port())
}

// checksum returns the Internet checksum (RFC 1071) of the bytes and what was summed before. Their number is even.
func checksum(before uint32, p []byte) uint16 {
	total := sum(before, p)
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return ^uint16(total)
}

func sum(total uint32, p []byte) uint32 {
	for ; len(p) > 1; p = p[2:] {
		total += uint32(binary.BigEndian.Uint16(p))
	}
	return total
}
