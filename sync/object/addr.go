package object

import (
	"net"
	"net/netip"
	"strings"

	"kube-ipvs/internal/inet"

	utilnet "k8s.io/utils/net"
)

// addr parses an address. Old API servers accepted leading zeros and IPv4-mapped IPv6 addresses and may still store
// them: addr reads them as kube-proxy does, and reports them.
func (r *reader) addr(field, s string) (netip.Addr, bool) {
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

// sloppyAddr parses addresses that old API servers accepted and netip rejects.
func (r *reader) sloppyAddr(field, s string) (netip.Addr, bool) {
	a, ok := fromNet(utilnet.ParseIPSloppy(s))
	if !ok {
		r.add(field, "%q is not an IP address", s)
		return netip.Addr{}, false
	}
	r.note(field, "%q has leading zeros; it is read as %v", s, a)
	return a, true
}

// prefix parses a range of addresses. Bits beyond its length are ignored, as everywhere in Kubernetes.
func (r *reader) prefix(field, s string) (netip.Prefix, bool) {
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

// sloppyPrefix parses ranges that old API servers accepted and netip rejects.
func (r *reader) sloppyPrefix(field, s string) (netip.Prefix, bool) {
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

// fromNet converts a net.IP, and reports whether it holds an address.
func fromNet(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// reserved returns why an address can be neither a frontend nor an endpoint: its packets belong to this host, to
// everyone, to a link, where cloud metadata services live, or to kube-ipvs. It returns "" for all others. The API rejects most of
// these in the fields that users write, but not in all fields, and manifests pass no API server.
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
	case inet.IsOwn(a):
		return "an address that kube-ipvs uses itself"
	}
	return ""
}

// addFrontend adds the address in s to the list, unless it cannot be a frontend.
func (r *reader) addFrontend(list *distinct[netip.Addr], field, s string) {
	a, ok := r.addr(field, s)
	if !ok {
		return
	}
	if why := reserved(a); why != "" {
		r.add(field, "%v is %s, which a Service cannot have", a, why)
		return
	}
	list.add(a)
}

// looksLikeIPv6 guesses the intended family of an invalid address.
func looksLikeIPv6(s string) bool { return strings.Contains(s, ":") }
