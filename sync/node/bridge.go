package node

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Bridge is a bridge that probably has pods.
type Bridge struct {
	Name       string
	IPv4, IPv6 bool // the families of the pods' gateway addresses on it
}

// PodBridge returns the bridge of that name or, without a name, the first with an address in one of the pod ranges, as a
// CNI plugin's bridge has. It returns the zero Bridge if there is none.
func PodBridge(name string, pods []netip.Prefix) (Bridge, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Bridge{}, fmt.Errorf("bridges: %w", err)
	}
	defer handle.Close()
	if err := handle.SetSocketTimeout(timeout); err != nil {
		return Bridge{}, fmt.Errorf("bridges: %w", err)
	}
	addrs, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return Bridge{}, fmt.Errorf("bridges: %w", err)
	}
	found := map[int]Bridge{}
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok || name == "" && !slices.ContainsFunc(pods, func(p netip.Prefix) bool { return p.Contains(addr) }) || !serves(addr) {
			continue
		}
		b := found[a.LinkIndex]
		b.IPv4, b.IPv6 = b.IPv4 || addr.Is4(), b.IPv6 || addr.Is6()
		found[a.LinkIndex] = b
	}
	for _, index := range slices.Sorted(maps.Keys(found)) {
		link, err := handle.LinkByIndex(index)
		if err == nil && link.Type() == "bridge" && (name == "" || link.Attrs().Name == name) {
			b := found[index]
			b.Name = link.Attrs().Name
			return b, nil
		}
	}
	return Bridge{}, nil
}
