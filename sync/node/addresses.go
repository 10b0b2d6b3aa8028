// Package node reads the plan's input from this machine: the node's own addresses. It is the only package below sync
// that reads the machine.
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

	"kube-ipvs/ipvs/steering"
)

const (
	// timeout is the time limit of a response of the kernel.
	timeout = 10 * time.Second
	// maxDumps is the number of dumps of addresses that may be interrupted by changes.
	maxDumps = 5
)

// Addresses returns the node's own addresses that can serve node ports: those of all interfaces but kube-ipvs0, except
// loopback addresses (127.0.0.0/8, ::1), which IPVS cannot serve, and link-local IPv6 addresses, which identify a node
// only together with an interface. It keeps 169.254.0.0/16, as nodes of some clouds have no other address. The result is
// sorted, IPv4 before IPv6, without duplicates.
func Addresses(ctx context.Context) ([]netip.Addr, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("node addresses: %w", err)
	}
	defer handle.Close()
	if err := handle.SetSocketTimeout(timeout); err != nil {
		return nil, fmt.Errorf("node addresses: %w", err)
	}
	var addrs []netip.Addr
	for range maxDumps {
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
	link, err := handle.LinkByName(steering.LinkName)
	switch {
	case err == nil:
		own = link.Attrs().Index
	case !errors.As(err, &netlink.LinkNotFoundError{}):
		return nil, fmt.Errorf("link %s: %w", steering.LinkName, err)
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

// serves reports whether a node port can be served at an address of the node.
func serves(a netip.Addr) bool {
	return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast())
}

// Watch calls changed when the node's addresses may have changed, and once at the start; see steering.Watch, whose errors it
// returns. For an address that existed at the start, the first notification counts as a change.
func Watch(ctx context.Context, changed func()) error {
	groups := []uint{unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
	return steering.Watch(ctx, groups, concerns, changed)
}

// concerns reports whether a change may change the result of Addresses: it concerns an address that can serve, on
// another link than kube-ipvs0 (which may have thousands), and more than its lifetime or flags.
func concerns(c steering.Change) bool {
	return c.Addr.IsValid() && !c.OnLink && !c.Same && serves(c.Addr)
}
