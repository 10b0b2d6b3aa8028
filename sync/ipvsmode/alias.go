package ipvsmode

import (
	"net/netip"

	"kube-ipvs/internal/inet"
)

// An alias of a frontend is the same port at another address, where IPVS has the endpoints for internal sources: pods and the
// node. Rules translate the address for them (NETMAP), which is one rule for all frontends, since an alias is the address with
// other leading bits.
//
// IPVS could find a second list of real servers by a firewall mark, too. But it compares the whole mark, and other agents write
// their own bits there up to the last moment: Calico's Felix in filter INPUT.

// AliasRange returns the range of a family's aliases: the last network of 240.0.0.0/4, which is reserved (RFC 1112), and a network that
// the IETF reserves (RFC 4291). Some clusters have pods in other parts of 240.0.0.0/4.
func AliasRange(f inet.Family) netip.Prefix {
	if f == inet.IPv4 {
		return aliases4
	}
	return aliases6
}

// Alias returns the alias of an address.
func Alias(a netip.Addr) netip.Addr {
	if a.Is4() {
		b := a.As4()
		b[0] = aliases4.Addr().As4()[0]
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	b[0] = aliases6.Addr().As16()[0]
	return netip.AddrFrom16(b)
}

// Connections to be rejected are translated, so that neither a listener on the node nor IPVS sees them: IPVS would
// report a virtual server without real servers in the kernel's log, and its ICMP error would be a second late.

// RejectTCP returns the target of TCP connections: a port of this host without a listener, so that its TCP resets them. The reset of a
// REJECT rule would bypass all translation if the packet comes from a bridge (nf_send_reset).
func RejectTCP(f inet.Family) netip.AddrPort {
	if f == inet.IPv4 {
		return rejectTCP4
	}
	return rejectTCP6
}

// RejectAddr returns the target of other protocols. It is routed to kube-ipvs0, where rules in FORWARD and OUTPUT reject them, and
// they get no conntrack entry. Like the aliases it lies in a reserved network, and it is no frontend's alias.
func RejectAddr(f inet.Family) netip.Addr {
	if f == inet.IPv4 {
		return rejectAddr4
	}
	return rejectAddr6
}

var (
	aliases4    = netip.MustParsePrefix("255.0.0.0/8")
	aliases6    = netip.MustParsePrefix("100::/8")
	rejectAddr4 = netip.MustParseAddr("254.255.255.254")
	rejectAddr6 = netip.MustParseAddr("400::1")
	rejectTCP4  = netip.MustParseAddrPort("255.255.255.254:1")
	rejectTCP6  = netip.MustParseAddrPort("[1ff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:1")
)
