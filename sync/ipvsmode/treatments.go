package ipvsmode

import (
	"context"
	"net/netip"
	"slices"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
)

// A frontend's treatment and its real servers must fit at every moment. With a Local policy, clients from outside keep their source, and must
// not be led to another node: its answers would pass this node by, and the connection would hang, or over UDP go on to nobody. So a frontend
// stops keeping sources before it gets endpoints elsewhere, and begins when no new connection goes there.

// change returns the treatments that a virtual server's frontend has and is to have, and reports whether these differ: it is on, and not
// rejected, in which case it leads nobody anywhere.
func (d *Dataplane) change(server ipvs.Key) (known, wanted ipset.Mark, differ bool) {
	sets, m := d.tables.sets(server.Addr), MemberOf(server)
	known, isOn := d.tables.members[sets.Frontends.Name].Known(m)
	wanted, isWanted := d.tables.members[sets.Frontends.Name].Wanted(m)
	_, isRejected := d.tables.members[sets.Rejected.Name].Known(m)
	return known, wanted, isOn && isWanted && !isRejected && known != wanted
}

// stopsKeeping reports whether a virtual server's frontend still keeps the source of clients and is not to.
func (d *Dataplane) stopsKeeping(server ipvs.Key) bool {
	known, _, differ := d.change(server)
	return differ && known == d.tables.marks.Of(KeepSource)
}

// beginsToKeep reports whether a virtual server's frontend is to keep the source of clients and does not yet.
func (d *Dataplane) beginsToKeep(server ipvs.Key) bool {
	_, wanted, differ := d.change(server)
	fe := d.frontends[server]
	return differ && wanted == d.tables.marks.Of(KeepSource) && fe != nil && !fe.Rejected
}

// stopKeeping changes the treatment of frontends that are not to keep sources any more.
func (d *Dataplane) stopKeeping(ctx context.Context) {
	for _, sets := range d.tables.families {
		if on := d.members[sets.Frontends.Name]; !on.Unknown() {
			on.Make(ctx, func(m ipset.Member) bool { return d.stopsKeeping(MemberKey(m)) })
		}
	}
}

// mayKeep reports whether a frontend leads new connections only to endpoints with which it may keep their source.
func (d *Dataplane) mayKeep(server ipvs.Key) bool {
	return !d.beginsToKeep(server) || !slices.ContainsFunc(d.frontends[server].Draining, func(at netip.AddrPort) bool {
		known, _ := d.tables.reals.Known(ipvs.RealKeyOf(server, at))
		return known.Weight > 0
	})
}
