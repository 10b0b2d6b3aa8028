package vip

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

// watchBuffer is how many bytes of notifications may wait. More are lost, which is a change like any other.
const watchBuffer = 1 << 20

// A Change is a notification of the kernel's about a link, an address, a route or a rule.
type Change struct {
	Event    uint16 // RTM_NEWLINK and so on, include/uapi/linux/rtnetlink.h
	Port     uint32 // of the netlink socket that made it; 0 if the kernel did, or does not say
	Family   uint8
	OnLink   bool       // it is about kube-ipvs0, or an address on it
	Table    uint32     // of a route
	Rule     bool       // it is about a rule of ours
	Protocol uint8      // of a route
	Addr     netip.Addr // of an address
	Same     bool       // of an address: links other than kube-ipvs0 had it before and have it still
}

// Watch calls changed when the kernel notifies one of the groups (RTNLGRP_*) of a change that concerns the caller, and
// also once at the start, when nothing more can be missed, and when notifications were lost. changed must be quick and
// is never called twice at a time. Watch returns when the context is done, with its error, or when it cannot go on.
func Watch(ctx context.Context, groups []uint, concerns func(Change) bool, changed func()) error {
	// Which link is kube-ipvs0 is followed too.
	groups = append([]uint{unix.RTNLGRP_LINK}, groups...)
	for {
		err := follow(ctx, groups, concerns, changed)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("watch: %w", err)
		}
		// Of what a full socket loses until it is empty the kernel speaks only once (netlink_overrun in
		// net/netlink/af_netlink.c), so this one can be trusted no more.
	}
}

// follow watches until something fails; with unix.ENOBUFS notifications were lost.
func follow(ctx context.Context, groups []uint, concerns func(Change) bool, changed func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Close)()
	if err := socket.SetReceiveBufferSize(watchBuffer, true); err != nil {
		// Refused in a user namespace. The default buffer is smaller, no more.
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

// A watcher knows the index of kube-ipvs0, or 0, and what it was told of addresses on other links since it began: the kernel
// notifies of every new lifetime, which routers renew every few seconds, as of an address that comes. It takes one of which
// it was told nothing for one that comes, or goes.
type watcher struct {
	link  uint32
	there map[netip.Addr]map[uint32]struct{} // the indices of the links that have an address
}

func newWatcher() watcher { return watcher{there: map[netip.Addr]map[uint32]struct{}{}} }

// receive says whether the next datagram has a change that concerns the caller.
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

// parse parses a notification and takes note of where the link is.
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
		c.OnLink = l.name == LinkName
		w.locate(c, l)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		link, prefix, err := parseAddress(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Addr, c.OnLink = prefix.Addr(), w.link != 0 && link == w.link
		if !c.OnLink {
			c.Same = w.moves(c, link)
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		_, ours, err := parseRule(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Rule = ours
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, err := parseRoute(m.Data)
		if err != nil {
			return Change{}, err
		}
		c.Table, c.Protocol = r.table, r.protocol
	}
	return c, nil
}

// moves takes note of an address that came to a link or left it, and says that links have it before and after.
func (w *watcher) moves(c Change, link uint32) (same bool) {
	links := w.there[c.Addr]
	if c.Event == unix.RTM_NEWADDR {
		if links == nil {
			links = map[uint32]struct{}{}
			w.there[c.Addr] = links
		}
		same = len(links) > 0
		links[link] = struct{}{}
		return same
	}
	delete(links, link)
	if len(links) == 0 {
		delete(w.there, c.Addr)
	}
	return len(links) > 0
}

func (w *watcher) locate(c Change, l linkState) {
	before := w.link
	switch {
	case c.OnLink && c.Event == unix.RTM_NEWLINK && c.Family == unix.AF_UNSPEC:
		w.link = l.index
	case l.index == w.link: // gone, or renamed
		w.link = 0
	}
	if w.link != before { // what is on another link has changed
		clear(w.there)
	}
}

// Watch calls changed when something changed that the Conn keeps; see the function Watch. Rules, routes and
// addresses that the Conn itself adds and removes are not reported, however many, if only one Watch of it runs at a time. Of
// IPv6 addresses the kernel does not tell who changed them: one that comes is never reported. Changes of the link always are.
func (c *Conn) Watch(ctx context.Context, changed func()) error {
	groups := []uint{
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	}
	port, err := c.bulk.Port()
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer c.leaving.end()
	concerns := func(change Change) bool { return change.ours() && change.Port != port && !c.leaving.hears(change) }
	return Watch(ctx, groups, concerns, func() {
		c.leaving.begin()
		changed()
	})
}

// ours says whether a change is to something that this package keeps.
func (c Change) ours() bool {
	switch c.Event {
	case unix.RTM_NEWADDR:
		return c.OnLink && c.Family == unix.AF_INET
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return isOurs(c.Table) || c.Protocol == RouteProtocol
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return c.Rule
	}
	return c.OnLink
}

// isOurs reports whether a routing table is ours.
func isOurs(table uint32) bool { return emptyTable <= table && table <= LastResortTable }
