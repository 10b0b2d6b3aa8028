package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNoHost says that the laboratory has no host of that name.
var ErrNoHost = errors.New("no such host")

// A Host is one place of the laboratory.
type Host struct {
	name  string
	addrs addresses
	space *namespace      // its own; nil: that of the process
	net   netns.NsHandle  // what space is, or the process's
	links *netlink.Handle // nil: the host does not exist
	once  sync.Once       // for close
}

// newHost makes a host with a namespace of its own, in which only lo is up.
func newHost(name string, addrs addresses) (*Host, error) {
	space, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("%s: make a network namespace: %w", name, err)
	}
	h := &Host{name: name, addrs: addrs, space: space, net: netns.None()}
	err = space.do(h.open)
	if err == nil {
		err = h.prepare()
	}
	if err != nil {
		h.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

// open opens the network namespace of the calling thread as the host's.
func (h *Host) open() (err error) {
	if h.net, err = netns.Get(); err != nil {
		return err
	}
	h.links, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

// prepare makes a new namespace a host that routes, says no to whom it does not answer, and is ready at once.
func (h *Host) prepare() error {
	return errors.Join(
		h.setSysctl("net/ipv4/ip_forward", "1"),
		h.setSysctl("net/ipv6/conf/all/forwarding", "1"),
		h.setSysctl("net/ipv6/conf/default/accept_dad", "0"),
		h.setSysctl("net/ipv4/icmp_ratelimit", "0"),
		h.setSysctl("net/ipv6/icmp/ratelimit", "0"),
		h.up("lo"),
	)
}

func (h *Host) close() {
	h.once.Do(func() {
		if h.links != nil {
			h.links.Close()
		}
		if h.net.IsOpen() {
			h.net.Close()
		}
		if h.space != nil {
			h.space.close()
		}
	})
}

// String returns the host's name.
func (h *Host) String() string { return h.name }

// Addr returns the host's IPv4 or IPv6 address: the node's in the LAN, a pod's in its node's range.
func (h *Host) Addr(v6 bool) netip.Addr { return h.addrs[family(v6)] }

// Do runs fn on a thread in the host's network namespace, alone. What it opens there may be used from anywhere; it
// must not start goroutines that open something themselves.
func (h *Host) Do(fn func() error) error {
	switch {
	case h.links == nil:
		return fmt.Errorf("%s: %w", h.name, ErrNoHost)
	case h.space == nil:
		return fn()
	}
	return h.space.do(fn)
}

// sysctl reads a setting of the host's namespace, named by its path below /proc/sys.
func (h *Host) sysctl(name string) (value string, err error) {
	err = h.Do(func() error {
		text, err := os.ReadFile(filepath.Join("/proc/sys", name))
		value = strings.TrimSpace(string(text))
		return err
	})
	return value, err
}

func (h *Host) setSysctl(name, value string) error {
	return h.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// An end is one end of a cable.
type end struct {
	host *Host
	link string
}

// connect lays a cable, a pair of veth devices. Both ends are down.
func connect(a, b end) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.link
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.link, PeerNamespace: netlink.NsFd(b.host.net)}
	if err := a.host.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("%s: make link %s: %w", a.host, a.link, err)
	}
	return nil
}

// isUp tells whether packets get through this end (RFC 2863, ifOperStatus).
func (e end) isUp() (up bool, err error) {
	err = e.host.with(e.link, func(link netlink.Link) error {
		up = link.Attrs().OperState == netlink.OperUp
		return nil
	})
	return up, err
}

// addBridge makes a bridge, which is down. It floods multicast from the first moment, as neighbour discovery needs.
func (h *Host) addBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	if err := h.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("%s: make bridge %s: %w", h, name, err)
	}
	return nil
}

// up sets a link up. Its IPv6 addresses are not checked for duplicates: they would not work for a second.
func (h *Host) up(name string) error {
	return h.with(name, func(link netlink.Link) error {
		return errors.Join(h.setSysctl("net/ipv6/conf/"+name+"/accept_dad", "0"), h.links.LinkSetUp(link))
	})
}

// plug makes a link a port of a bridge.
func (h *Host) plug(name, bridge string) error {
	return h.with(bridge, func(master netlink.Link) error {
		return h.with(name, func(link netlink.Link) error { return h.links.LinkSetMaster(link, master) })
	})
}

// hairpin lets a port of a bridge get back what came from it, as CNI's hairpinMode does: with bridge-nf-call-iptables a
// pod's answer to itself is bridged, not routed (net/bridge/br_netfilter_hooks.c, br_nf_pre_routing_finish).
func (h *Host) hairpin(name string) error {
	return h.with(name, func(link netlink.Link) error { return h.links.LinkSetHairpin(link, true) })
}

func (h *Host) addAddresses(name string, addrs []netip.Prefix) error {
	return h.with(name, func(link netlink.Link) error {
		for _, a := range addrs {
			address := &netlink.Addr{IPNet: ipNet(a)}
			if a.Addr().Is6() {
				// Otherwise it is tentative until the kernel finds the time to see that nobody looks for duplicates
				// here, and until then nothing binds it.
				address.Flags = unix.IFA_F_NODAD
			}
			if err := h.links.AddrAdd(link, address); err != nil {
				return fmt.Errorf("add address %v: %w", a, err)
			}
		}
		return nil
	})
}

// isReachable reports whether the host has the route to its own IPv6 address.
func (h *Host) isReachable() (bool, error) {
	routes, err := h.links.RouteGet(h.Addr(true).AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: route to %v: %w", h, h.Addr(true), err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL }), nil
}

// addRoute makes a route over a link, to the next hop via or, if that is not valid, to the neighbours themselves.
func (h *Host) addRoute(to netip.Prefix, via netip.Addr, name string) error {
	return h.with(name, func(link netlink.Link) error {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice()}
		if !via.IsValid() {
			route.Scope = netlink.SCOPE_LINK
		}
		if err := h.links.RouteAdd(route); err != nil {
			return fmt.Errorf("add route to %v: %w", to, err)
		}
		return nil
	})
}

// addRoutes makes a route of each family.
func (h *Host) addRoutes(to Network, via addresses, name string) error {
	return errors.Join(h.addRoute(to[0], via[0], name), h.addRoute(to[1], via[1], name))
}

// addNeighbour tells the host who has this address on the link, for good.
func (h *Host) addNeighbour(addr netip.Addr, mac net.HardwareAddr, name string) error {
	return h.with(name, func(link netlink.Link) error {
		return h.links.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
		})
	})
}

// with finds a link by name and does something with it; the error names both.
func (h *Host) with(name string, do func(netlink.Link) error) error {
	link, err := h.links.LinkByName(name)
	if err == nil {
		err = do(link)
	}
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", h, name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
