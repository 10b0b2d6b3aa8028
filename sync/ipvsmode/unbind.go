package ipvsmode

import (
	"context"
	"net/netip"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/reconcile"
)

// An unbinding removes addresses from the link that kube-proxy's ipvs mode put there, or bind mode. The node's own connections
// have them as source, and go on: in a service range by the route of the range; elsewhere the address is replaced by a route of
// its own, which stays as long as a socket has it as source. New connections take the node's address from then on.
type unbinding struct {
	held     map[netip.Addr]struct{} // addresses outside of service ranges with such a route
	unserved map[netip.Addr]struct{} // addresses of frontends that are not on; nil: not known in this sync
	job      reconcile.Job
	busy     bool
	next     time.Time // of the next look at sockets
}

// unboundInterval is the time between looks at sockets.
const unboundInterval = 10 * time.Second

// replaceAddresses wants routes in the place of addresses that are to be removed, and of those of an earlier process.
func (d *Dataplane) replaceAddresses() {
	d.unbinding.unserved = nil
	if d.cfg.Plan.Bind || d.cfg.InUse == nil {
		return
	}
	for i := range d.tables.bound.Extra() {
		d.hold(i.Prefix)
	}
	if d.unbinding.job.Start != nil {
		return
	}
	d.unbinding.job.Start = d.cfg.Queue.Go
	for i := range d.tables.routing.Extra() {
		if i.Kind == steering.Local {
			d.hold(i.Prefix)
		}
	}
}

func (d *Dataplane) hold(p netip.Prefix) {
	a := p.Addr()
	_, held := d.unbinding.held[a]
	source := d.tables.sources[inet.FamilyOf(a)]
	if held || !p.IsSingleIP() || !source.IsValid() || d.inServiceCIDR(a) {
		return
	}
	if d.unbinding.held == nil {
		d.unbinding.held = map[netip.Addr]struct{}{}
	}
	d.unbinding.held[a] = struct{}{}
	d.tables.routing.Want(heldRoute(a), source)
}

// heldRoute is the route in the place of an address.
func heldRoute(a netip.Addr) steering.Item {
	return steering.Item{Kind: steering.Local, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// mayUnbind reports whether an address may be removed: its frontends are on, and a route is in its place.
func (d *Dataplane) mayUnbind(i steering.Item) bool {
	a := i.Prefix.Addr()
	if d.cfg.Plan.Bind || !d.tables.has(a) {
		return true
	}
	if !d.stands(inet.FamilyOf(a)) || d.isUnserved(a) {
		return false
	}
	if _, held := d.unbinding.held[a]; held {
		return d.routes.Present(heldRoute(a))
	}
	for _, p := range d.ranges {
		if p.Contains(a) && !d.routes.Present(steering.Item{Kind: steering.Local, Prefix: p}) {
			return false
		}
	}
	return true
}

// isUnserved reports whether an address has a frontend that is not on. It lists them once in a sync.
func (d *Dataplane) isUnserved(a netip.Addr) bool {
	u := &d.unbinding
	if u.unserved == nil {
		u.unserved = map[netip.Addr]struct{}{}
		for _, sets := range d.tables.families {
			for _, name := range []string{sets.Frontends.Name, sets.External.Name} {
				for o := range d.members[name].Table.Missing() {
					u.unserved[o.Key().Addr] = struct{}{}
				}
			}
		}
	}
	_, is := u.unserved[a]
	return is
}

// isHeld reports whether a route is in the place of an address.
func (d *Dataplane) isHeld(i steering.Item) bool {
	_, held := d.unbinding.held[i.Prefix.Addr()]
	return held && i.Prefix.IsSingleIP()
}

// release drops the routes of addresses that no socket has as source.
func (d *Dataplane) release(ctx context.Context, now time.Time) {
	u := &d.unbinding
	u.job.TakeOver()
	if len(u.held) == 0 || u.busy || now.Before(u.next) {
		return
	}
	u.busy = true
	u.job.Begin(func() func() {
		inUse, err := d.cfg.InUse(ctx)
		return func() {
			u.busy, u.next = false, time.Now().Add(unboundInterval)
			for a := range u.held {
				if _, used := inUse[a]; err == nil && !used && d.addresses.Absent(steering.Item{Kind: steering.Address, Prefix: netip.PrefixFrom(a, a.BitLen())}) {
					delete(u.held, a)
					d.tables.routing.Drop(heldRoute(a))
				}
			}
		}
	})
}
