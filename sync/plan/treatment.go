package plan

import "kube-ipvs/ipset"

// A Treatment is what happens to packets for a frontend on their way to its real servers. It is written in three bits
// of the firewall mark that the frontend's member in the set of frontends maps onto a packet, so that one look-up
// decides everything and the number of rules is a constant. Rules, in rules.go, say what each does.
type Treatment uint8

// The treatments. Divert means that the packet is delivered to this host although the address is not the host's.
// "Outside" is a source that is neither a pod, as --detect-local-mode finds them, nor this node.
const (
	Plain            Treatment = 0b000 // a node port that keeps the source
	GuardOutside     Treatment = 0b001 // a node port that drops new connections from outside
	Masquerade       Treatment = 0b010 // a node port that hides the source
	Refuse           Treatment = 0b011 // refuse new connections; divert the others
	Divert           Treatment = 0b100 // divert and keep the source
	DivertCluster    Treatment = 0b101 // divert and hide sources outside, as cluster IPs do
	DivertMasquerade Treatment = 0b110 // divert and hide the source
	DivertGuard      Treatment = 0b111 // divert, but drop new connections from outside
)

// String returns the treatment in words.
func (t Treatment) String() string {
	return [...]string{"keep source", "drop outside", "masquerade", "refuse", "divert, keep source", "divert, masquerade outside",
		"divert, masquerade", "divert, drop outside"}[t]
}

// Marks are the bits of the firewall mark that the proxy uses. They are ours on the way from PREROUTING to INPUT, and
// the masquerade bit up to POSTROUTING; other bits are never touched, except that a packet for a second list of real
// servers (Inside) carries a number from INPUT or OUTPUT on, because IPVS compares the whole mark.
type Marks struct {
	Masquerade uint32 // --iptables-masquerade-bit; the middle bit of a treatment
	Divert     uint32 // the high bit of a treatment
	Inside     uint32 // the low bit of a treatment; alone with a number: this packet came from inside
	Numbers    uint32 // the bits that numbers are made of
}

// portmapBit is the bit by which the CNI plugin "portmap" masquerades in POSTROUTING (its default markMasqBit), where our
// numbers are still on the packet.
const portmapBit = 13

// MarksFor returns the marks for --iptables-masquerade-bit, 0 to 31. The others are taken from the same half of the
// mark, from the top: diverting, Inside, and twelve bits for numbers.
func MarksFor(masqueradeBit int) Marks {
	bit := 15
	if masqueradeBit > bit {
		bit = 31
	}
	next := func() uint32 {
		for bit == masqueradeBit || bit == portmapBit {
			bit--
		}
		bit--
		return 1 << (bit + 1)
	}
	m := Marks{Masquerade: 1 << masqueradeBit, Divert: next(), Inside: next()}
	for range numberBits {
		m.Numbers |= next()
	}
	return m
}

// numberBits is how many bits a number has: half a mark less the three of a treatment and portmap's.
const numberBits = 12

// Mask is the bits that a treatment is written in.
func (m Marks) Mask() uint32 { return m.Divert | m.Masquerade | m.Inside }

// Value is the treatment written in the bits of Mask.
func (m Marks) Value(t Treatment) uint32 {
	var v uint32
	for i, bit := range []uint32{m.Inside, m.Masquerade, m.Divert} {
		if t&(1<<i) != 0 {
			v |= bit
		}
	}
	return v
}

// Of is the mark of a frontend's set member.
func (m Marks) Of(t Treatment) ipset.Mark { return ipset.Mark{Value: m.Value(t), Mask: m.Mask()} }

// Capacity is the highest number that Number takes: how many second lists a family can have.
const Capacity = 1<<numberBits - 1

// Number is the whole mark of packets from inside for the n-th second list of real servers, 1 to Capacity: n written
// in the bits of Numbers, with the Inside bit.
func (m Marks) Number(n uint32) uint32 {
	v := m.Inside
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if m.Numbers&bit == 0 {
			continue
		}
		if n&1 != 0 {
			v |= bit
		}
		n >>= 1
	}
	return v
}

// NumberOf is the number that a whole mark carries, or 0 if it carries none.
func (m Marks) NumberOf(mark uint32) uint32 {
	if mark&^m.Numbers != m.Inside {
		return 0
	}
	var n, place uint32 = 0, 1
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if m.Numbers&bit == 0 {
			continue
		}
		if mark&bit != 0 {
			n |= place
		}
		place <<= 1
	}
	return n
}
