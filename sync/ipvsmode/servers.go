package ipvsmode

import (
	"context"
	"errors"
	"iter"
	"maps"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/reconcile"
)

func (d *Dataplane) serversLayer() *reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op] {
	return &reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op]{
		Title: "servers", Table: d.tables.servers, Compare: ipvs.Key.Compare, Count: d.count.layer("servers"),
		MayAdd: d.mayServe, MayDel: d.isOff, Aside: d.foreign.has,
		Read: func(ctx context.Context) (iter.Seq2[ipvs.Key, ipvs.Server], error) {
			table, err := d.table.get(ctx)
			return func(yield func(ipvs.Key, ipvs.Server) bool) {
				for k, e := range table {
					if !yield(k, e.Server) {
						return
					}
				}
			}, err
		},
		Do: d.doServers,
		Add: func(k ipvs.Key, s ipvs.Server, there bool) ipvs.Op {
			if there {
				return ipvs.Op{Verb: ipvs.SetServer, Key: k, Server: s}
			}
			return ipvs.Op{Verb: ipvs.AddServer, Key: k, Server: s}
		},
		Del: func(k ipvs.Key) ipvs.Op { return ipvs.Op{Verb: ipvs.DelServer, Key: k} },
	}
}

// doServers carries out changes to virtual servers. With a server the kernel removes its real servers, and its flows are
// stale.
func (d *Dataplane) doServers(ctx context.Context, ops []ipvs.Op) []error {
	errs := d.cfg.IPVS.Do(ctx, ops)
	gone := map[ipvs.Key]struct{}{}
	for i, op := range ops {
		switch op.Verb {
		case ipvs.AddServer:
			d.noteMade(ctx, op.Key, reconcile.ErrorAt(errs, i))
		case ipvs.DelServer: // whatever the answer, which may be lost
			d.flows.add(d.trackedAs(op.Key))
		}
		if reconcile.ErrorAt(errs, i) != nil {
			continue
		}
		if op.Verb == ipvs.DelServer {
			gone[op.Key] = struct{}{}
		}
		d.made += made(op)
	}
	for k := range gone {
		d.tables.servers.Forget(k)
		for at := range d.tables.draining.servers[k] {
			real := ipvs.RealKeyOf(k, at)
			d.tables.reals.Forget(real)
			d.tables.draining.forget(real)
		}
	}
	if len(gone) > 0 {
		for k := range d.tables.reals.Extra() {
			if _, ok := gone[k.Server]; ok {
				d.tables.reals.Forget(k)
			}
		}
	}
	return errs
}

// made returns the change of the number of IPv4 virtual servers by an op.
func made(op ipvs.Op) int {
	switch {
	case !op.Key.Addr.Is4():
	case op.Verb == ipvs.AddServer:
		return 1
	case op.Verb == ipvs.DelServer:
		return -1
	}
	return 0
}

// errOwnersUnknown means that the owners of virtual servers are unknown.
var errOwnersUnknown = errors.New("their ownership records could not be read")

// readTable reads the owned virtual servers: those with an ownership record, or with an address in a service CIDR, and those
// that kube-proxy left. It leaves out foreign ones.
func (d *Dataplane) readTable(ctx context.Context) (ipvs.Table, error) {
	if d.ownersUnknown() {
		return nil, errOwnersUnknown
	}
	if err := d.predecessor.read(ctx, d.cfg.Sets); err != nil {
		return nil, err
	}
	table, err := d.cfg.IPVS.Read(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(table, func(k ipvs.Key, _ ipvs.Entry) bool { return !d.isOurs(k) })
	return table, nil
}

func (d *Dataplane) ownersUnknown() bool {
	for _, sets := range d.tables.families {
		if d.members[sets.Owned.Name].Unknown() {
			return true
		}
	}
	return false
}

// mayServe reports whether a virtual server may be made: it has its ownership record, for the next process to read, and its guard.
// IPVS serves the node at once, and at the node's own addresses everybody.
func (d *Dataplane) mayServe(k ipvs.Key) bool {
	return d.members[d.tables.sets(k.Addr).Owned.Name].Present(MemberOf(k)) && d.isGuarded(MemberOf(k))
}

// isOff reports whether no packets are on their way to a virtual server: its frontend is off, or no frontend sends any to this
// alias.
func (d *Dataplane) isOff(k ipvs.Key) bool {
	sets := d.tables.sets(k.Addr)
	if of, ok := d.tables.aliasOf(k); ok {
		return d.members[sets.Internal.Name].Absent(MemberOf(of))
	}
	return d.members[sets.Frontends.Name].Absent(MemberOf(k))
}

// countDiffers reports whether others added or removed an IPv4 virtual server since the last check: the number of those not
// made here changed.
func (d *Dataplane) countDiffers(ctx context.Context) (bool, error) {
	all, err := d.cfg.IPVS.Count(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	others := all - d.made
	differ := err != nil || d.lookout.counted && others != d.lookout.others
	d.lookout.others, d.lookout.counted = others, err == nil
	if differ {
		d.invalidateServers()
	}
	return differ, err
}

// tableDiffers compares all virtual servers with their known state. What the listing lacks, which it does for ever where another
// network namespace has virtual servers, is looked for in a dump.
func (d *Dataplane) tableDiffers(ctx context.Context) (bool, error) {
	c := comparison{d: d}
	err := d.cfg.IPVS.Walk(ctx, c.take)
	if err == nil && !c.differ && c.lacks() {
		var table ipvs.Table
		table, err = d.cfg.IPVS.Read(ctx)
		c = comparison{d: d}
		for key, e := range table {
			c.take(key, e)
		}
	}
	differ := c.differ || c.lacks() || err != nil
	if differ {
		d.invalidateServers()
	}
	return differ, err
}

// A comparison takes the virtual servers that exist, one by one.
type comparison struct {
	d              *Dataplane
	differ         bool // one of them is not as it is known
	servers, reals int  // of those that are known
}

func (c *comparison) take(key ipvs.Key, e ipvs.Entry) {
	known, ok := c.d.tables.servers.Known(key)
	if !ok {
		c.differ = c.differ || c.d.isOurs(key)
		return
	}
	c.servers++
	c.differ = c.differ || known.Scheduler != e.Server.Scheduler || (known.Timeout == 0) != (e.Server.Timeout == 0)
	for at, state := range e.Reals {
		c.reals++
		real, ok := c.d.tables.reals.Known(ipvs.RealKeyOf(key, at))
		c.differ = c.differ || !ok || real != state.Real
	}
}

// lacks reports whether known virtual servers, or real servers, were not among them.
func (c *comparison) lacks() bool {
	return c.servers != c.d.tables.servers.KnownLen() || c.reals != c.d.tables.reals.KnownLen()
}

func (d *Dataplane) invalidateServers() {
	d.serverLayer.Invalidate()
	d.realLayer.Invalidate()
}
