package lab

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// A Network is a prefix of each family, IPv4 first.
type Network [2]netip.Prefix

// Prefix returns the network's IPv4 or IPv6 prefix.
func (n Network) Prefix(v6 bool) netip.Prefix { return n[family(v6)] }

// The networks of the laboratory. Pods of the node are in Pods, those of the second node in RemotePods; Services are
// the ranges that the router sends to the node: of cluster IPs and of external addresses.
var (
	LAN        = network("192.168.77.0/24", "fd00:192:168:77::/64")
	Outside    = network("198.51.100.0/24", "2001:db8:51::/64")
	Pods       = network("10.244.1.0/24", "fd00:10:244:1::/64")
	RemotePods = network("10.244.2.0/24", "fd00:10:244:2::/64")
	Services   = []Network{
		network("10.96.0.0/12", "fd00:10:96::/112"),
		network("203.0.113.0/24", "2001:db8:203::/64"),
	}
)

// anywhere is where default routes lead.
var anywhere = network("0.0.0.0/0", "::/0")

func network(v4, v6 string) Network {
	return Network{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
}

func family(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// addresses is a host's address of each family, IPv4 first.
type addresses [2]netip.Addr

// host returns the addresses of host n. They look alike: number 11 is 10.244.1.11 and fd00:10:244:1::11.
func (n Network) host(number int) addresses {
	v4, v6 := n[0].Addr().As4(), n[1].Addr().As16()
	v4[3] += byte(number)
	digits, _ := strconv.ParseUint(strconv.Itoa(number), 16, 16)
	binary.BigEndian.PutUint16(v6[14:], uint16(digits))
	return addresses{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
}

// on returns the addresses with the length of the network's prefixes.
func (a addresses) on(n Network) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(a[0], n[0].Bits()), netip.PrefixFrom(a[1], n[1].Bits())}
}

// alone returns the addresses with full length.
func (a addresses) alone() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(a[0], 32), netip.PrefixFrom(a[1], 128)}
}
