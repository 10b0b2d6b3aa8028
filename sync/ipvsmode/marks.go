package ipvsmode

import "kube-ipvs/ipset"

// A Treatment is the policy for the first packet of a connection to a frontend: two bits of the firewall mark, which the
// frontend's member in the set of frontends maps onto the packet, so that one look-up decides and the number of rules is a
// constant.
type Treatment uint8

// The treatments. "External" is a source that is neither a pod, as --detect-local-mode finds them, nor this node.
const (
	KeepSource         Treatment = 0b00
	DropExternal       Treatment = 0b01 // drop connections from external sources; others keep their source
	Masquerade         Treatment = 0b10
	MasqueradeExternal Treatment = 0b11 // hide external sources, as cluster IPs do
)

// String returns the treatment in words.
func (t Treatment) String() string {
	return [...]string{"keep source", "drop external", "masquerade", "masquerade external"}[t]
}

// Marks are the proxy's bits of the firewall mark. It never changes another bit, and if another agent sets one of them on a
// packet for no Service, that does no harm: their routing tables hold service addresses only.
type Marks struct {
	// Masquerade, --iptables-masquerade-bit, is on the first packet of a connection up to POSTROUTING, and in the
	// connection's mark for as long, so that it survives rules that restore marks from there.
	Masquerade uint32
	// Divert delivers a packet from elsewhere to this host although the address is not the host's: from raw PREROUTING on,
	// and in the mark of the connection. It stays on the packet, for agents that save whole marks at its end.
	Divert uint32
	// Own has uses that never meet: in PREROUTING it is the low bit of a treatment; on packets of the node itself,
	// and in the mark of their connection, it does the work of Divert, from OUTPUT to POSTROUTING; in the mark
	// of a connection from elsewhere it means that IPVS has no entry for it.
	Own uint32
}

// MarksFor returns the marks for --iptables-masquerade-bit, 0 to 31. The others are in the same half of the mark, where the fewest
// others are: not kubelet's 15, portmap's 13, Cilium's 8 to 11, AWS's 7, nor Calico's and Tailscale's in the upper half.
func MarksFor(masqueradeBit int) Marks {
	half := masqueradeBit &^ 15
	bit := func(first, second int) uint32 {
		if half+first == masqueradeBit {
			return 1 << (half + second)
		}
		return 1 << (half + first)
	}
	return Marks{Masquerade: 1 << masqueradeBit, Divert: bit(12, 3), Own: bit(4, 5)}
}

// Mask is the bits of a treatment.
func (m Marks) Mask() uint32 { return m.Masquerade | m.Own }

// Value is the treatment written in the bits of Mask.
func (m Marks) Value(t Treatment) uint32 {
	var v uint32
	if t&0b01 != 0 {
		v |= m.Own
	}
	if t&0b10 != 0 {
		v |= m.Masquerade
	}
	return v
}

// Of is the mark of a frontend's set member.
func (m Marks) Of(t Treatment) ipset.Mark { return ipset.Mark{Value: m.Value(t), Mask: m.Mask()} }
