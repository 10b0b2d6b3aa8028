package ipset

import (
	"fmt"
	"net/netip"
	"os"

	"kube-ipvs/internal/inet"
)

// check returns os.ErrInvalid for a faulty definition.
func (s Set) check() error {
	switch {
	case s.Name == "" || len(s.Name) > maxNameLen:
		return fmt.Errorf("set name %q: %w: it must have 1 to %d bytes", s.Name, os.ErrInvalid, maxNameLen)
	case s.Type.revision() == 0:
		return fmt.Errorf("set %s: %w: type %q", s.Name, os.ErrInvalid, s.Type)
	case s.Family != inet.IPv4 && s.Family != inet.IPv6:
		return fmt.Errorf("set %s: %w: family %d", s.Name, os.ErrInvalid, s.Family)
	}
	return nil
}

// checkMember returns os.ErrInvalid if a set of this definition cannot hold the member: the kernel would refuse it or
// store another one.
func (s Set) checkMember(m Member) error {
	reason := ""
	if s.Type != HashNet {
		reason = s.checkAddr(m.Addr)
	}
	switch {
	case reason != "":
	case s.Type == HashNet && (m.Addr.IsValid() || m.Proto != 0 || m.Port != 0):
		reason = "more than a network"
	case s.Type == HashNet:
		reason = s.checkNet(m.Other)
	case s.Type == HashIP:
		reason = m.checkAlone()
	case m.Proto == 0:
		reason = "no protocol"
	case m.Port != 0 && !hasPorts(m.Proto):
		reason = "this protocol has no ports"
	default:
		reason = s.checkOther(m.Other)
	}
	if reason != "" {
		return fmt.Errorf("%w for set %s: %s", os.ErrInvalid, s.Name, reason)
	}
	return nil
}

func (s Set) checkAddr(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no address"
	case a.Is4In6() || a.Zone() != "":
		return "address in a form that sets do not have"
	case inet.FamilyOf(a) != s.Family:
		return "address of the other family"
	}
	return ""
}

// checkAlone returns the fault of a member of one address, or "".
func (m Member) checkAlone() string {
	switch {
	case m.Proto != 0 || m.Port != 0 || m.Other.IsValid():
		return "more than an address"
	case m.Addr.IsUnspecified():
		return "the unspecified address cannot be stored"
	}
	return ""
}

func (s Set) checkOther(p netip.Prefix) string {
	if s.Type == HashIPPort {
		if p.IsValid() {
			return "more than an address and port"
		}
		return ""
	}
	if s.Type == HashIPPortIP && p.IsValid() && !p.IsSingleIP() {
		return "third field: not a single address"
	}
	if reason := s.checkNet(p); reason != "" {
		return "third field: " + reason
	}
	return ""
}

// checkNet returns the fault of a network, or "".
func (s Set) checkNet(p netip.Prefix) string {
	if reason := s.checkAddr(p.Addr()); reason != "" {
		return reason
	}
	switch {
	case p.Bits() <= 0:
		return "a prefix of length 0 cannot be stored"
	case p != p.Masked():
		return "bits beyond the prefix length"
	}
	return ""
}

// hasPorts reports whether the kernel keeps the port of a protocol (ip_set_proto_with_ports in
// include/linux/netfilter/ipset/ip_set_getport.h): TCP, UDP, SCTP and UDP-Lite.
func hasPorts(p inet.Protocol) bool {
	const udpLite = 136
	return p == inet.TCP || p == inet.UDP || p == inet.SCTP || p == udpLite
}

// revision returns the type's first revision with skbinfo (Linux 3.18), or 0 for an unsupported type. Sets are created
// with the lowest sufficient revision, so that older versions of ipset(8) can list them.
func (t Type) revision() uint8 {
	switch t {
	case HashIP:
		return 4
	case HashIPPort, HashIPPortIP:
		return 5
	case HashNet:
		return 6
	case HashIPPortNet:
		return 7
	}
	return 0
}
