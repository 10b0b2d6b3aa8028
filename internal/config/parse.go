package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	netutils "k8s.io/utils/net"
)

// Kube-proxy reads addresses as Go once did: 010.0.0.1 is 10.0.0.1, and an IPv4 address in IPv6's form is one of IPv4.

// parseAddr parses an address.
func parseAddr(s string) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(s))
	return a.Unmap(), ok
}

// parsePrefix parses a range.
func parsePrefix(s string) (netip.Prefix, bool) {
	_, network, err := netutils.ParseCIDRSloppy(strings.TrimSpace(s))
	if err != nil {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(network.IP)
	bits, _ := network.Mask.Size()
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, bits), true
}

// parseAddrPort parses an address and a port that can be bound.
func parseAddrPort(s string) (netip.AddrPort, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, ok := parseAddr(host)
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), ok && err == nil && n > 0
}

// prefixes parses ranges and reports each malformed one.
func (r *review) prefixes(s setting, given []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range given {
		p, ok := parsePrefix(text)
		if !ok {
			r.bad(s, text, "must be a range like 10.0.0.0/8")
			continue
		}
		out = append(out, p)
	}
	return out
}
