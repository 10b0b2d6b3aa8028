package steering

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchBuffer bounds the unread notifications, in bytes. The loss of more counts as a change.
const watchBuffer = 1 << 20

// A Change is a notification of the kernel's about a link, an address, a route or a rule.
type Change struct {
	Event    uint16 // RTM_NEWLINK and so on, include/uapi/linux/rtnetlink.h
	Port     uint32 // of the netlink socket that made it; 0: the kernel made it, or does not report the port
	Family   uint8
	OnLink   bool       // it is about kube-ipvs0, or an address on it
	Table    uint32     // of a route
	Rule     bool       // it is about an owned rule, or a stranger's that owned ones are to come before
	Protocol uint8      // of a route
	Addr     netip.Addr // of an address
	Same     bool       // of an address: links other than kube-ipvs0 had it before and have it still
}

// Watch calls changed when the kernel notifies one of the groups (RTNLGRP_*) of a change that concerns the caller. It
// also calls it once at the start, when it is subscribed, and after a loss of notifications. changed must be quick; calls
// do not overlap. Watch returns the context's error when that is done, or the error that ended it.
func Watch(ctx context.Context, groups []uint, concerns func(Change) bool, changed func()) error {
	// The index of kube-ipvs0 may change.
	groups = append([]uint{unix.RTNLGRP_LINK}, groups...)
	for {
		err := follow(ctx, groups, concerns, changed)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("watch: %w", err)
		}
		// The kernel reports only the first loss of a full socket until it is empty (netlink_overrun in
		// net/netlink/af_netlink.c), so this socket is no longer reliable.
	}
}

// follow watches until the first error; unix.ENOBUFS means that notifications were lost.
func follow(ctx context.Context, groups []uint, concerns func(Change) bool, changed func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Close)()
	if err := socket.SetReceiveBufferSize(watchBuffer, true); err != nil {
		// Refused in a user namespace. The system's limit applies then.
		_ = socket.SetReceiveBufferSize(watchBuffer, false)
	}
	w := newWatcher()
	if link, err := netlink.LinkByName(LinkName); err == nil {
		w.link = uint32(link.Attrs().Index)
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("link %s: %w", LinkName, err)
	}
	for changed(); ; {
		news, err := w.receive(socket, concerns)
		if err != nil {
			return err
		}
		if news {
			changed()
		}
	}
}

// A watcher tracks the index of kube-ipvs0, or 0, and the addresses on other links, by the notifications since its start:
// the kernel notifies of every new lifetime, which routers renew every few seconds, as of a new address. The first
// notification of an address counts as its addition or removal.
type watcher struct {
	link   uint32
	linkOf map[netip.Addr]map[uint32]struct{} // the indices of the links with an address
}

func newWatcher() watcher { return watcher{linkOf: map[netip.Addr]map[uint32]struct{}{}} }

// receive reports whether the next datagram has a change that concerns the caller.
func (w *watcher) receive(socket *nl.NetlinkSocket, concerns func(Change) bool) (bool, error) {
	messages, from, err := socket.Receive()
	switch {
	case err != nil:
		return false, err
	case from.Pid != nl.PidKernel:
		return false, nil
	}
	news := false
	for _, m := range messages {
		c, err := w.parse(m)
		if err != nil {
			return false, err
		}
		news = concerns(c) || news
	}
	return news, nil
}

// parse parses a notification and updates the watcher.
func (w *watcher) parse(m syscall.NetlinkMessage) (Change, error) {
	c := Change{Event: m.Header.Type, Port: m.Header.Pid}
	if len(m.Data) > 0 {
		c.Family = m.Data[0]
	}
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := parseLink(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.OnLink = l.name == LinkName || w.link != 0 && l.index == w.link // it may have got another name
		w.locate(c, l)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		link, prefix, err := parseAddress(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Addr, c.OnLink = prefix.Addr(), w.link != 0 && link == w.link
		if !c.OnLink {
			c.Same = w.update(c, link)
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r, owned, err := parseRule(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Rule = owned || r.inFront()
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, err := parseRoute(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Table, c.Protocol = r.table, r.protocol
	}
	return c, nil
}

// update records that a link got or lost an address, and reports whether links had it before and have it after.
func (w *watcher) update(c Change, link uint32) (same bool) {
	links := w.linkOf[c.Addr]
	if c.Event == unix.RTM_NEWADDR {
		if links == nil {
			links = map[uint32]struct{}{}
			w.linkOf[c.Addr] = links
		}
		same = len(links) > 0
		links[link] = struct{}{}
		return same
	}
	delete(links, link)
	if len(links) == 0 {
		delete(w.linkOf, c.Addr)
	}
	return len(links) > 0
}

func (w *watcher) locate(c Change, l linkState) {
	before := w.link
	switch {
	case l.name == LinkName && c.Event == unix.RTM_NEWLINK && c.Family == unix.AF_UNSPEC:
		w.link = l.index
	case l.index == w.link: // removed or renamed
		w.link = 0
	}
	if w.link != before { // the set of other links has changed
		clear(w.linkOf)
	}
}

// Watch calls changed when an owned object changed, or a stranger's rule that decides where owned ones stand; see the function Watch. It does not report rules, routes and
// addresses that the Conn itself adds and removes, if only one Watch of the Conn runs at a time. The kernel does not
// report the author of a change to IPv6 addresses: a new one is never reported. Changes of the link always are.
func (c *Conn) Watch(ctx context.Context, changed func()) error {
	groups := []uint{
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	}
	port, err := c.bulk.Port()
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer c.removals.end()
	concerns := func(change Change) bool {
		return change.owned() && change.Port != port && !c.removals.takeChange(change)
	}
	return Watch(ctx, groups, concerns, func() {
		c.removals.begin()
		changed()
	})
}

// owned reports whether a change is to an owned object, or to what decides where it stands.
func (c Change) owned() bool {
	switch c.Event {
	case unix.RTM_NEWADDR:
		return c.OnLink && c.Family == unix.AF_INET
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return isOwned(c.Table) || c.Protocol == RouteProtocol
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return c.Rule
	}
	return c.OnLink
}

// isOwned reports whether a routing table is owned.
func isOwned(table uint32) bool { return emptyTable <= table && table <= LastResortTable }
