package vip

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// A route is a route of the kernel's, as far as it matters here.
type route struct {
	prefix   netip.Prefix
	table    uint32
	oif      uint32
	protocol uint8
	scope    uint8
	typ      uint8 // RTN_*
	gateway  bool  // there is a next hop, or several
}

// route returns the route of a Route, LastRoute, RefuseRoute or Divert; link is the index of kube-ipvs0.
func (i Item) route(link uint32) route {
	r := route{prefix: i.Prefix, oif: link, protocol: RouteProtocol, typ: unix.RTN_UNICAST, scope: unix.RT_SCOPE_LINK}
	switch i.Kind {
	case Divert:
		r.table, r.oif, r.typ, r.scope = DivertTable, loopback, unix.RTN_LOCAL, unix.RT_SCOPE_HOST
	case LastRoute:
		r.table = LastResortTable
	case RefuseRoute:
		r.table = RefuseTable
	default:
		r.table = unix.RT_TABLE_MAIN
	}
	if i.Prefix.Addr().Is6() {
		r.scope = unix.RT_SCOPE_UNIVERSE // IPv6 has no scopes of routes
	}
	return r
}

// encode appends the message that adds or removes the route. Adding takes nothing from anybody. Removing leaves what is
// not ours: in the main table it names our protocol.
func (r route) encode(b *bulk.Batch, verb Verb) {
	family := byte(unix.AF_INET)
	if r.prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	if verb == Add {
		b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	} else {
		b.Begin(unix.RTM_DELROUTE, 0)
		r.scope, r.typ, r.oif = unix.RT_SCOPE_NOWHERE, unix.RTN_UNSPEC, 0
		if r.table != unix.RT_TABLE_MAIN {
			r.protocol = 0
		}
	}
	// struct rtmsg: family, lengths of destination and source, TOS, table (as attribute), protocol, scope, type, flags.
	b.Raw(family, byte(r.prefix.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, r.protocol, r.scope, r.typ, 0, 0, 0, 0)
	b.Addr(unix.RTA_DST, r.prefix.Addr())
	b.Uint32(unix.RTA_TABLE, r.table)
	if r.oif != 0 {
		b.Uint32(unix.RTA_OIF, r.oif)
	}
	b.End()
}

// parseRoute parses struct rtmsg and its attributes. The prefix of a family that is not IP's is invalid.
func parseRoute(p []byte) (route, error) {
	if len(p) < unix.SizeofRtMsg {
		return route{}, fmt.Errorf("route of %d bytes: %w", len(p), bulk.ErrMalformed)
	}
	r := route{table: uint32(p[4]), protocol: p[5], scope: p[6], typ: p[7]}
	var dst netip.Addr
	switch p[0] {
	case unix.AF_INET:
		dst = netip.IPv4Unspecified()
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	}
	a := bulk.Parse(p[unix.SizeofRtMsg:])
	for a.Next() {
		switch a.Type() {
		case unix.RTA_DST:
			if p[0] == unix.AF_INET || p[0] == unix.AF_INET6 {
				dst = a.Addr()
			}
		case unix.RTA_TABLE:
			r.table = a.Uint32()
		case unix.RTA_OIF:
			r.oif = a.Uint32()
		case unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH, unix.RTA_ENCAP:
			r.gateway = true
		}
	}
	r.prefix = netip.PrefixFrom(dst, int(p[1]))
	return r, a.Err()
}

// item returns the item that the route is, if it is one of ours and right. The route of Divert is the item with mark 0.
func (r route) item(link uint32) (Item, bool) {
	i := Item{Prefix: r.prefix}
	switch {
	case !r.prefix.IsValid() || r.gateway:
		return Item{}, false
	case r.table == DivertTable && r.prefix.Bits() == 0:
		i.Kind = Divert
	case r.table == LastResortTable:
		i.Kind = LastRoute
	case r.table == RefuseTable:
		i.Kind = RefuseRoute
	case r.table == unix.RT_TABLE_MAIN:
		i.Kind = Route
	default:
		return Item{}, false
	}
	if i.Kind != Route {
		r.protocol = RouteProtocol // whoever made it, the table is ours
	}
	return i, r.oif != 0 && r == i.route(link)
}

// readRoutes adds the routes that are ours and right.
func (c *Conn) readRoutes(ctx context.Context, link uint32, items map[Item]struct{}) error {
	return c.dump(ctx, dumpOf{get: unix.RTM_GETROUTE, header: unix.SizeofRtMsg}, func(p []byte) error {
		r, err := parseRoute(p)
		if err != nil {
			return err
		}
		if i, ok := r.item(link); ok {
			items[i] = struct{}{}
		}
		return nil
	})
}

// divertRoute adds or removes the route of the divert table. What is in its place there is replaced: the table is ours.
func (c *Conn) divertRoute(ctx context.Context, i Item, verb Verb) error {
	there := make(map[Item]struct{})
	if err := c.readRoutes(ctx, 0, there); err != nil {
		return err
	}
	if _, ok := there[Item{Kind: Divert, Prefix: i.Prefix}]; ok == (verb == Add) {
		return nil
	}
	r := i.route(0)
	errs := make([]error, 2)
	c.batch.Reset()
	r.encode(&c.batch, Del)
	if verb == Add {
		r.encode(&c.batch, Add)
	}
	copy(errs, c.bulk.Do(ctx, &c.batch))
	if verb == Add {
		return errs[1]
	}
	return gone(errs[0])
}
