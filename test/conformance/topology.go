package main

import (
	"fmt"
	"net/netip"

	"kube-ipvs/test/cluster"
)

// fewNodes is how many nodes the tests of SIG Network ask for, but for some, which want two in each zone.
const fewNodes, zones = 3, 3

// The addresses of all pods, and the cluster IP of the cluster's DNS.
const (
	podCIDRs   = "10.244.0.0/16,fd00:10:244::/48"
	clusterDNS = "10.96.0.10"
)

// outsideAddress is the address that clients outside of the nodes' network have: a test takes an address of that network for
// a node's.
const outsideAddress = "198.51.100.1"

// A node is a network namespace in the test kernel, on the network of the cluster's tap device.
type node struct {
	name      string
	zone      string
	addresses []netip.Prefix // one of each family, IPv4 first
	pods      []netip.Prefix // its pods' addresses, likewise
}

// numbered returns the node with this number, from 1.
func numbered(i int) node {
	return node{
		name:      fmt.Sprintf("node%d", i),
		zone:      fmt.Sprintf("zone%d", (i-1)%zones+1),
		addresses: []netip.Prefix{peer(cluster.TapHost4, 10+i), peer(cluster.TapHost6, 0x10+i)},
		pods: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i)),
		},
	}
}

// nodes returns the nodes of the bed.
func (s setting) nodes() []node {
	var list []node
	for i := 1; i <= s.count; i++ {
		list = append(list, numbered(i))
	}
	return list
}

// peer returns another address of the same network: the same bytes but for the last one.
func peer(host string, last int) netip.Prefix {
	p := netip.MustParsePrefix(host)
	bytes := p.Addr().AsSlice()
	bytes[len(bytes)-1] = byte(last)
	a, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(a, p.Bits())
}

// host returns the control plane's address in the family of the node's address with this index.
func host(family int) netip.Addr {
	return netip.MustParsePrefix([]string{cluster.TapHost4, cluster.TapHost6}[family]).Addr()
}

// texts joins what addresses or prefixes look like with commas.
func texts[T fmt.Stringer](list []T) string {
	out := ""
	for i, x := range list {
		if i > 0 {
			out += ","
		}
		out += x.String()
	}
	return out
}
