package ipvsmode

import (
	"context"
	"iter"
	"net/netip"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/reconcile"
)

// Titles of the two layers of the routing: the routes that packets need before frontends are turned on, and the addresses of bind
// mode, which come behind the sets that reject unclaimed packets there.
const (
	routingTitle = "routing"
	boundTitle   = "addresses"
)

func (d *Dataplane) steeringLayer(title string, table *delta.Table[steering.Item, netip.Addr]) *reconcile.TableLayer[steering.Item, netip.Addr, steering.Op] {
	return &reconcile.TableLayer[steering.Item, netip.Addr, steering.Op]{
		Title: title, Table: table, Compare: steering.Item.Compare, Count: d.count.layer(title), MayAdd: d.mayDeliver, MayDel: d.mayRemove, Quiet: d.isGivenUp,
		Read: func(ctx context.Context) (iter.Seq2[steering.Item, netip.Addr], error) {
			items, err := d.items.get(ctx)
			return func(yield func(steering.Item, netip.Addr) bool) {
				for i, source := range items {
					if (i.Kind == steering.Address) == (title == boundTitle) && !yield(i, source) {
						return
					}
				}
			}, err
		},
		Do: d.doVIPs,
		Add: func(i steering.Item, source netip.Addr, there bool) steering.Op {
			_, bound := d.tables.bound.Known(steering.Item{Kind: steering.Address, Prefix: i.Prefix})
			return steering.Op{Verb: steering.Add, Item: i, Source: source, Over: i.Kind == steering.Local && bound && !there}
		},
		Del: func(i steering.Item) steering.Op { return steering.Op{Verb: steering.Del, Item: i} },
	}
}

// mayDeliver reports whether packets for an item may be delivered to this host: unclaimed ones are rejected by now, and do not reach
// listeners on all addresses of the node; or kube-proxy's ipvs mode delivers them already. Diverted frontends are claimed one by one.
func (d *Dataplane) mayDeliver(i steering.Item) bool {
	if i.Kind != steering.Local && i.Kind != steering.Address || d.isHeld(i) {
		return true
	}
	a := i.Prefix.Addr()
	guarded := d.members[d.tables.sets(a).Local.Name].Present(ipset.Member{Other: i.Prefix})
	return (guarded || d.predecessor.isThere) && d.rulesInSync(inet.FamilyOf(a))
}

// mayRemove reports whether an item may be removed.
func (d *Dataplane) mayRemove(i steering.Item) bool {
	return i.Kind != steering.Address || d.mayUnbind(i)
}

// doVIPs changes the link, routes and rules. A new link has its own settings.
func (d *Dataplane) doVIPs(ctx context.Context, ops []steering.Op) []error {
	link := slices.IndexFunc(ops, func(op steering.Op) bool { return op.Verb == steering.Add && op.Item.Kind == steering.Link })
	if _, wanted := d.settings.Wanted(linkIPv6); link < 0 || !wanted {
		return d.cfg.Steering.Do(ctx, ops)
	}
	errs := make([]error, len(ops))
	copy(errs, d.cfg.Steering.Do(ctx, ops[:link+1]))
	d.settingLayer.Invalidate()
	d.settingLayer.Observe(ctx)
	d.settingLayer.Ensure(ctx)
	copy(errs[link+1:], d.cfg.Steering.Do(ctx, ops[link+1:]))
	return errs
}

// base adds the objects that do not depend on Services.
func (d *Dataplane) base() {
	for _, f := range d.cfg.Families {
		for _, item := range d.baseOf(f) {
			d.tables.routing.Want(item, netip.Addr{})
		}
		refs{tables: d.tables}.network(inet.AliasRange(f))
	}
}

// baseOf returns the items of a family that do not depend on Services: the link, and the routes of rejected packets and of aliases.
func (d *Dataplane) baseOf(f inet.Family) []steering.Item {
	reject := inet.RejectAddr(f)
	return []steering.Item{
		{Kind: steering.Link},
		{Kind: steering.Refuse, Prefix: netip.PrefixFrom(reject, reject.BitLen())},
		{Kind: steering.Local, Prefix: inet.AliasRange(f)},
	}
}

// stands reports whether the base of a family is in place, with the routing rules if packets are diverted, and frontends may be turned
// on.
func (d *Dataplane) stands(f inet.Family) bool {
	return !slices.ContainsFunc(d.baseOf(f), d.isMissing) && !slices.ContainsFunc(d.tables.policies[f], d.isMissing) && d.rulesInSync(f)
}

// isMissing reports whether an item is desired and not in place.
func (d *Dataplane) isMissing(i steering.Item) bool {
	_, wanted := d.tables.routing.Wanted(i)
	_, known := d.tables.routing.Known(i)
	return wanted && !known
}

// rulesInSync reports whether the rules of a family are in sync.
func (d *Dataplane) rulesInSync(f inet.Family) bool {
	return d.rulesOf(f).isInSync()
}

// updateRoutes delivers the service CIDRs to this host instead of the former ones, with the node's address as source. It ignores those of
// a family that this node does not have.
func (d *Dataplane) updateRoutes(cidrs []netip.Prefix) {
	add, drop := refs{tables: d.tables}, refs{tables: d.tables, drop: true}
	for f := range d.tables.families {
		d.tables.sources[f] = d.node.Source(f == inet.IPv4)
	}
	add.cidrs(cidrs)
	drop.cidrs(d.ranges)
	d.ranges = cidrs
}

// everything is the prefix of all addresses of a family.
func everything(f inet.Family) netip.Prefix {
	if f == inet.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// inServiceCIDR reports whether an address is in a service range, which only this proxy serves.
func (d *Dataplane) inServiceCIDR(a netip.Addr) bool {
	return slices.ContainsFunc(d.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}
