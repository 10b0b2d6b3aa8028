package object

import (
	"net"
	"net/netip"
	"strings"

	utilnet "k8s.io/utils/net"
)

// addr parses an address. Old API servers accepted leading zeros and IPv4 in IPv6's clothes, and may still hold them:
// these are read as kube-proxy reads them, and reported.
func (r *report) addr(field, s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return r.sloppyAddr(field, s)
	case a.Zone() != "":
		r.add(field, "%q has a zone, which means nothing outside its node", s)
		return netip.Addr{}, false
	case a.Is4In6():
		r.note(field, "%q is an IPv4-mapped IPv6 address; it is read as %v", s, a.Unmap())
	}
	return a.Unmap(), true
}

// sloppyAddr parses what netip refuses but old API servers accepted.
func (r *report) sloppyAddr(field, s string) (netip.Addr, bool) {
	a, ok := fromNet(utilnet.ParseIPSloppy(s))
	if !ok {
		r.add(field, "%q is not an IP address", s)
		return netip.Addr{}, false
	}
	r.note(field, "%q has leading zeros; it is read as %v", s, a)
	return a, true
}

// prefix parses a range of addresses. Bits behind its length are ignored, as everywhere in Kubernetes.
func (r *report) prefix(field, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return r.sloppyPrefix(field, s)
	case p.Addr().Is4In6() && p.Bits() < 96:
		r.add(field, "%q is neither a range of IPv4 nor one of IPv6 addresses", s)
		return netip.Prefix{}, false
	case p.Addr().Is4In6():
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		r.note(field, "%q is a range of IPv4-mapped IPv6 addresses; it is read as %v", s, p.Masked())
	}
	return p.Masked(), true
}

// sloppyPrefix parses what netip refuses but old API servers accepted.
func (r *report) sloppyPrefix(field, s string) (netip.Prefix, bool) {
	_, n, err := utilnet.ParseCIDRSloppy(s)
	if err != nil {
		r.add(field, "%q is not a range of IP addresses", s)
		return netip.Prefix{}, false
	}
	a, ok := fromNet(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size != a.BitLen() {
		r.add(field, "%q is neither a range of IPv4 nor one of IPv6 addresses", s)
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(a, bits).Masked()
	r.note(field, "%q has leading zeros; it is read as %v", s, p)
	return p, true
}

// fromNet returns the address that a net.IP holds, if any.
func fromNet(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// reserved says why an address can neither be captured nor serve: its packets belong to this host, to everyone, or to a
// link, where cloud metadata services live. The API refuses most of these for what users write, but not for all fields,
// and a folder of manifests is asked by nobody. It returns "" for one that can.
func reserved(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsMulticast():
		return "a multicast address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case a.Is4() && a.As4()[0] == 0:
		return "an address of \"this network\""
	}
	return ""
}

// appendFrontend appends the address in s to the list, unless it is there already or cannot be a frontend.
func (r *report) appendFrontend(list []netip.Addr, field, s string) []netip.Addr {
	a, ok := r.addr(field, s)
	if !ok {
		return list
	}
	if why := reserved(a); why != "" {
		r.add(field, "%v is %s, which a Service cannot have", a, why)
		return list
	}
	return appendNew(list, a)
}

// appendNew appends what the list does not hold yet.
func appendNew[T comparable](list []T, v T) []T {
	for _, have := range list {
		if have == v {
			return list
		}
	}
	return append(list, v)
}

// looksLikeIPv6 guesses which family a text that cannot be parsed was meant for.
func looksLikeIPv6(s string) bool { return strings.Contains(s, ":") }
