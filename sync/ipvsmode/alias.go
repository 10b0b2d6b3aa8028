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

// Alias returns the alias of an address.
func Alias(a netip.Addr) netip.Addr {
	if a.Is4() {
		b := a.As4()
		b[0] = inet.AliasRange(inet.IPv4).Addr().As4()[0]
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	b[0] = inet.AliasRange(inet.IPv6).Addr().As16()[0]
	return netip.AddrFrom16(b)
}

// Connections to be rejected are translated, so that neither a listener on the node nor IPVS sees them: IPVS would
// report a virtual server without real servers in the kernel's log, and its ICMP error would be a second late. TCP goes to RejectTCP,
// other protocols to inet.RejectAddr: that is routed to kube-ipvs0, where rules in FORWARD and OUTPUT reject them, and they get no
// conntrack entry.

// RejectTCP returns the target of TCP connections: a port of this host without a listener, so that its TCP resets them. The reset of a
// REJECT rule would bypass all translation if the packet comes from a bridge (nf_send_reset).
func RejectTCP(f inet.Family) netip.AddrPort {
	if f == inet.IPv4 {
		return rejectTCP4
	}
	return rejectTCP6
}

var (
	rejectTCP4 = netip.MustParseAddrPort("255.255.255.254:1")
	rejectTCP6 = netip.MustParseAddrPort("[1ff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:1")
)
