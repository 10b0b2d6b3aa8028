package steering

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	bulk "kube-ipvs/internal/netlink"
)

// A route has the relevant attributes of a kernel's route.
type route struct {
	prefix   netip.Prefix
	table    uint32
	oif      uint32
	protocol uint8
	scope    uint8
	typ      uint8 // RTN_*
	gateway  bool  // there is a next hop, or several
	source   netip.Addr
}

// route returns the route of an item of a kind from Refuse to LastRoute; link is the index of kube-ipvs0.
func (i Item) route(link uint32, source netip.Addr) route {
	r := route{prefix: i.Prefix, oif: link, protocol: RouteProtocol, typ: unix.RTN_UNICAST, scope: unix.RT_SCOPE_LINK}
	switch i.Kind {
	case Local:
		r.table, r.typ, r.scope, r.source = unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, unix.RT_SCOPE_HOST, source
	case Divert:
		r.table, r.typ, r.scope = DivertTable, unix.RTN_LOCAL, unix.RT_SCOPE_HOST
	case LastRoute:
		r.table = LastResortTable
	default:
		r.table = unix.RT_TABLE_LOCAL
	}
	if i.Prefix.Addr().Is6() {
		r.scope = unix.RT_SCOPE_UNIVERSE // IPv6 routes have no scope
	}
	return r
}

// encode appends the message that adds or removes the route. Adding replaces no other route, and fails if there is one, unless
// it is to go over that. Removing leaves foreign routes alone: outside of owned tables it names the owned protocol.
func (r route) encode(b *bulk.Batch, verb Verb, over bool) {
	switch {
	case verb == Add && over:
		b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE)
	case verb == Add:
		b.Begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	default:
		b.Begin(unix.RTM_DELROUTE, 0)
		r.scope, r.typ, r.oif, r.source = unix.RT_SCOPE_NOWHERE, unix.RTN_UNSPEC, 0, netip.Addr{}
		if isOwned(r.table) {
			r.protocol = 0
		}
	}
	// struct rtmsg: family, lengths of destination and source, TOS, table (as attribute), protocol, scope, type, flags.
	b.Raw(familyOf(r.prefix), byte(r.prefix.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, r.protocol, r.scope, r.typ, 0, 0, 0, 0)
	b.Addr(unix.RTA_DST, r.prefix.Addr())
	b.Uint32(unix.RTA_TABLE, r.table)
	if r.oif != 0 {
		b.Uint32(unix.RTA_OIF, r.oif)
	}
	if r.source.IsValid() {
		b.Addr(unix.RTA_PREFSRC, r.source)
	}
	b.End()
}

// familyOf returns the number of a prefix's address family.
func familyOf(p netip.Prefix) byte { return byte(inet.FamilyOf(p.Addr())) }

// parseRoute parses struct rtmsg and its attributes. In families other than IPv4 and IPv6 the prefix is invalid.
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
		case unix.RTA_PREFSRC:
			r.source = a.Addr()
		case unix.RTA_GATEWAY, unix.RTA_VIA, unix.RTA_MULTIPATH, unix.RTA_ENCAP:
			r.gateway = true
		}
	}
	r.prefix = netip.PrefixFrom(dst, int(p[1]))
	return r, a.Err()
}

// item returns the item of an owned and correct route.
func (r route) item(link uint32) (Item, bool) {
	i := Item{Prefix: r.prefix}
	switch {
	case !r.prefix.IsValid() || r.gateway:
		return Item{}, false
	case r.table == DivertTable:
		i.Kind = Divert
	case r.table == LastResortTable:
		i.Kind = LastRoute
	case r.table == unix.RT_TABLE_LOCAL && r.typ == unix.RTN_LOCAL:
		i.Kind = Local
	case r.table == unix.RT_TABLE_LOCAL:
		i.Kind = Refuse
	default:
		return Item{}, false
	}
	if isOwned(r.table) {
		r.protocol = RouteProtocol // everything in an owned table is owned
	}
	return i, r.oif != 0 && r == i.route(link, r.source)
}

// readRoutes adds the owned and correct routes.
func (c *Conn) readRoutes(ctx context.Context, link uint32, items Items) error {
	return c.dump(ctx, dumpOf{get: unix.RTM_GETROUTE, header: unix.SizeofRtMsg}, func(p []byte) error {
		r, err := parseRoute(p)
		if err != nil {
			return err
		}
		if i, ok := r.item(link); ok {
			items[i] = r.source
		}
		return nil
	})
}
