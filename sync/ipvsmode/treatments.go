package ipvsmode

import (
	"context"
	"net/netip"
	"slices"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// A frontend's treatment and its real servers must fit at every moment. With a Local policy, clients from outside keep their source, and must
// not be led to another node: its answers would pass this node by, and the connection would hang, or over UDP go on to nobody. So a frontend
// stops keeping sources before it gets endpoints elsewhere, and begins when no new connection goes there.

// membersOn returns the layer of the members that turn on frontends of a server's family.
func (d *Dataplane) membersOn(server ipvs.Key) *reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op] {
	return d.members[d.tables.sets(server.Addr).Frontends.Name]
}

// change returns the frontend of a virtual server that is on with one treatment and is to get another, and whether it keeps the source of
// clients before and after; nil if there is none. One that is rejected leads nobody anywhere.
func (d *Dataplane) change(server ipvs.Key) (fe *plan.Frontend, before, after bool) {
	on, m, keep := d.membersOn(server), MemberOf(server), d.tables.marks.Of(KeepSource)
	known, isOn := on.Table.Known(m)
	wanted, isWanted := on.Table.Wanted(m)
	_, isRejected := d.members[d.tables.sets(server.Addr).Rejected.Name].Table.Known(m)
	if !isOn || !isWanted || known == wanted || isRejected {
		return nil, false, false
	}
	return d.frontends[server], known == keep, wanted == keep
}

// stopKeeping changes the treatment of frontends that are on and are not to keep sources any more.
func (d *Dataplane) stopKeeping(ctx context.Context) {
	for _, sets := range d.tables.families {
		on := d.members[sets.Frontends.Name]
		if on.Unknown() || on.Ready != nil && !on.Ready() {
			continue
		}
		var due []ipset.Member
		for o := range on.Table.Missing() {
			if d.stopsKeeping(MemberKey(o.Key())) {
				due = append(due, o.Key())
			}
		}
		wanted := func(m ipset.Member) ipset.Mark { mark, _ := on.Table.Wanted(m); return mark }
		on.CarryOut(ctx, on.Due(due, on.Compare), func(m ipset.Member) ipset.Op { return on.Add(m, wanted(m), true) },
			func(m ipset.Member) { on.Table.Learn(m, wanted(m)) })
	}
}

// stopsKeeping reports whether a virtual server's frontend still keeps the source of clients and is not to.
func (d *Dataplane) stopsKeeping(server ipvs.Key) bool {
	fe, before, after := d.change(server)
	return fe != nil && before && !after
}

// beginsToKeep reports whether a virtual server's frontend is to keep the source of clients and does not yet.
func (d *Dataplane) beginsToKeep(server ipvs.Key) bool {
	fe, before, after := d.change(server)
	return fe != nil && !fe.Rejected && !before && after
}

// mayKeep reports whether a frontend leads new connections only to endpoints with which it may keep their source.
func (d *Dataplane) mayKeep(server ipvs.Key) bool {
	return !d.beginsToKeep(server) || !slices.ContainsFunc(d.frontends[server].Draining, func(at netip.AddrPort) bool {
		known, _ := d.tables.reals.Known(ipvs.RealKeyOf(server, at))
		return known.Weight > 0
	})
}
