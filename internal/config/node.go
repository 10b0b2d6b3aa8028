package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// NodeName returns the name of this node's Node: the override, or else the host's name, as the kubelet writes it: trimmed, in
// lower case.
func NodeName(override, host string) (string, error) {
	name := override
	if name == "" {
		name = host
	}
	if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
		return "", errors.New("the node has no name: give --hostname-override")
	}
	return name, nil
}

// NodeIPs returns the node's addresses, the primary one first, then the one of the other family: of a Node's addresses the
// first of each family, with the bind address in place of the one of its family, and loopback if a family has none. A bind
// address also makes its family the primary one.
func NodeIPs(bind netip.Addr, ofNode []netip.Addr) [2]netip.Addr {
	first := func(is4 bool) (netip.Addr, bool) {
		if i := slices.IndexFunc(ofNode, func(a netip.Addr) bool { return a.Is4() == is4 }); i >= 0 {
			return ofNode[i], true
		}
		return loopback(is4), false
	}
	v4, has4 := first(true)
	v6, has6 := first(false)
	primary4 := has4 || !has6
	if has4 && has6 {
		primary4 = ofNode[0].Is4()
	}
	if bind.IsValid() && !bind.IsUnspecified() {
		if primary4 = bind.Is4(); primary4 {
			v4 = bind
		} else {
			v6 = bind
		}
	}
	if primary4 {
		return [2]netip.Addr{v4, v6}
	}
	return [2]netip.Addr{v6, v4}
}

func loopback(is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// NodePorts selects the node's addresses that serve node ports. The zero value selects all.
type NodePorts struct {
	Primary bool           // at the Node's own, see NodeIPs
	Ranges  []netip.Prefix // and at those in these
}

// Everywhere reports whether node ports are served at all of the node's addresses.
func (n NodePorts) Everywhere() bool { return !n.Primary && len(n.Ranges) == 0 }

// Select returns the node's addresses that serve node ports, in the given order. As in kube-proxy, a family is restricted
// only by addresses of that family. Unlike kube-proxy, which waits for the Node, it selects none as long as it is to be the
// Node's own addresses and those are not known.
func (n NodePorts) Select(own []netip.Addr, nodeIPs [2]netip.Addr) []netip.Addr {
	ranges := n.Ranges
	if n.Primary {
		ranges = slices.Clone(ranges)
		for _, a := range nodeIPs {
			if a.IsValid() && !a.IsLoopback() {
				ranges = append(ranges, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	selected := []netip.Addr{}
	if n.Primary && len(ranges) == 0 {
		return selected
	}
	for _, a := range own {
		sameFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() }
		contains := func(p netip.Prefix) bool { return p.Contains(a) }
		if !slices.ContainsFunc(ranges, sameFamily) || slices.ContainsFunc(ranges, contains) {
			selected = append(selected, a)
		}
	}
	return selected
}
