package inet

import "net/netip"

// Addresses that kube-ipvs uses itself on every node. They lie in networks that are reserved, and no Service or endpoint may have one:
// its author would decide where other Services' packets go.

// AliasRange returns the range of a family's aliases: the last network of 240.0.0.0/4, which is reserved (RFC 1112), and a network that
// the IETF reserves (RFC 4291). Some clusters have pods in other parts of 240.0.0.0/4.
func AliasRange(f Family) netip.Prefix {
	if f == IPv4 {
		return aliases4
	}
	return aliases6
}

// RejectAddr returns the address to which packets that are to be rejected are translated, unless they are TCP's. It is no frontend's
// alias.
func RejectAddr(f Family) netip.Addr {
	if f == IPv4 {
		return rejectAddr4
	}
	return rejectAddr6
}

// IsOwn reports whether kube-ipvs uses an address itself.
func IsOwn(a netip.Addr) bool {
	f := FamilyOf(a)
	return AliasRange(f).Contains(a) || a == RejectAddr(f)
}

var (
	aliases4    = netip.MustParsePrefix("255.0.0.0/8")
	aliases6    = netip.MustParsePrefix("100::/8")
	rejectAddr4 = netip.MustParseAddr("254.255.255.254")
	rejectAddr6 = netip.MustParseAddr("400::1")
)
