// Package inet names what all parts of the kernel have in common: the address families and the protocols of the Internet, each
// once for the whole module.
package inet

import (
	"fmt"
	"net/netip"
)

// A Family is an address family. Its number is Linux's, for sockets (AF_INET, AF_INET6) and for netfilter (NFPROTO_IPV4,
// NFPROTO_IPV6).
type Family uint8

// The families.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns the family's name, such as "IPv6", or its number.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("family(%d)", uint8(f))
}

// A Protocol is an IP protocol number (IANA "Protocol Numbers").
type Protocol uint8

// The protocols that IPVS and Kubernetes Services share.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns the protocol's lower-case name, or its number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}
