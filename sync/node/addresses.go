// Package node reads what the plan must know of this machine: its own addresses. It is the only package below sync that
// looks at the machine.
package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs/vip"
)

const (
	// patience is how long an answer of the kernel may take.
	patience = 10 * time.Second
	// attempts is how often the addresses are listed anew because they changed meanwhile.
	attempts = 5
)

// Addresses returns the node's own addresses that may serve node ports: those of all interfaces but kube-ipvs0, without
// loopback addresses (127.0.0.0/8, ::1), which IPVS cannot serve, and without link-local ones of IPv6, which name a node
// only together with an interface. 169.254.0.0/16 stays, as nodes of some clouds have no other address. They are sorted,
// each once, IPv4 before IPv6.
func Addresses(ctx context.Context) ([]netip.Addr, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("node addresses: %w", err)
	}
	defer handle.Close()
	if err := handle.SetSocketTimeout(patience); err != nil {
		return nil, fmt.Errorf("node addresses: %w", err)
	}
	var addrs []netip.Addr
	for range attempts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		addrs, err = read(handle)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("node addresses: %w", err)
	}
	return addrs, nil
}

func read(handle *netlink.Handle) ([]netip.Addr, error) {
	own := 0
	link, err := handle.LinkByName(vip.LinkName)
	switch {
	case err == nil:
		own = link.Attrs().Index
	case !errors.As(err, &netlink.LinkNotFoundError{}):
		return nil, fmt.Errorf("link %s: %w", vip.LinkName, err)
	}
	var addrs []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := handle.AddrList(nil, family)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if addr, ok := netip.AddrFromSlice(a.IP); ok && a.LinkIndex != own && serves(addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// serves says whether a node port can be served at an address of the node.
func serves(a netip.Addr) bool {
	return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast())
}

// Select returns the addresses that lie in one of the prefixes (--nodeport-addresses), or all if there are none. The
// order stays.
func Select(addrs []netip.Addr, nodePortAddresses []netip.Prefix) []netip.Addr {
	if len(nodePortAddresses) == 0 {
		return slices.Clone(addrs)
	}
	var selected []netip.Addr
	for _, a := range addrs {
		if slices.ContainsFunc(nodePortAddresses, func(p netip.Prefix) bool { return p.Contains(a) }) {
			selected = append(selected, a)
		}
	}
	return selected
}

// Watch calls changed when the node's addresses may have changed, and once at the start; see vip.Watch, whose errors it
// returns. Of an address that was there at the start the first notification counts as a change.
func Watch(ctx context.Context, changed func()) error {
	groups := []uint{unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
	return vip.Watch(ctx, groups, concerns, changed)
}

// concerns says whether a change is to what Addresses returns: to an address that may serve, on another link than kube-ipvs0,
// where there may be thousands, and not to its lifetime or flags only.
func concerns(c vip.Change) bool {
	return c.Addr.IsValid() && !c.OnLink && !c.Same && serves(c.Addr)
}
