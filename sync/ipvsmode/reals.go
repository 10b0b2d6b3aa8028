package ipvsmode

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// A realsLayer is the layer of real servers. One that is wanted no more keeps the connections that it has: it gets
// weight 0 and is removed when they are gone. Being drained is weight 0 and connections left, as the kernel says, so
// that a restart forgets nothing, and one that is wanted again is one change of weight.
//
// A connection that was closed is inactive to the kernel for two minutes more (TIME_WAIT), and so is one that only one
// side has closed, over which the other may still send. To remove a real server breaks the second and nobody notices the
// first, but the kernel counts them together. What tells them apart is whether there is still somebody to send: as long as
// a slice lists the endpoint it keeps both, at weight 0, which costs nothing. After that only active connections count,
// once a while has passed for the last words of the others.
type realsLayer struct {
	reconcile.TableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]
	kernel ipvs.Kernel
	limit  time.Duration
	listed func(ipvs.RealKey) bool // the endpoint is still in a slice, so that it may take its time

	draining map[ipvs.RealKey]drain
	look     bool // it is time to look at those that drain
}

// A drain is what is remembered of a real server that drains; the zero time: not so.
type drain struct {
	unlisted time.Time // since when no slice lists it
	quiet    time.Time // since when it is neither listed nor has active connections
}

// drainInterval is how often draining real servers are looked at: each look is one dump of their virtual server's.
const drainInterval = 2 * time.Second

// quietLimit is how long a real server that is listed no more is kept for inactive connections alone. With the time until
// a look it is gone within five seconds of its last active connection.
const quietLimit = drainInterval

func (d *Dataplane) realsLayer() *realsLayer {
	r := &realsLayer{
		kernel: d.cfg.IPVS, limit: d.cfg.DrainLimit, listed: d.listed, draining: map[ipvs.RealKey]drain{},
	}
	r.TableLayer = reconcile.TableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]{
		Title: "reals", Table: d.tables.reals, Compare: ipvs.RealKey.Compare, Count: d.count.layer("reals"),
		MayAdd: func(k ipvs.RealKey) bool { return d.serverLayer.Present(k.Server) },
		// With a virtual server that goes the kernel removes its real servers.
		MayDel: func(k ipvs.RealKey) bool {
			_, wanted := d.tables.servers.Wanted(k.Server)
			return wanted
		},
		Read: func(ctx context.Context) (iter.Seq2[ipvs.RealKey, ipvs.Real], error) {
			table, err := d.table.get(ctx)
			return realsOf(table), err
		},
		Do: d.doReals,
		Add: func(k ipvs.RealKey, r ipvs.Real, there bool) ipvs.Op {
			if there {
				return ipvs.Op{Verb: ipvs.SetReal, Key: k.Server, Addr: k.AddrPort(), Real: r}
			}
			return ipvs.Op{Verb: ipvs.AddReal, Key: k.Server, Addr: k.AddrPort(), Real: r}
		},
		Del: func(k ipvs.RealKey) ipvs.Op { return ipvs.Op{Verb: ipvs.DelReal, Key: k.Server, Addr: k.AddrPort()} },
	}
	return r
}

func realsOf(t ipvs.Table) iter.Seq2[ipvs.RealKey, ipvs.Real] {
	return func(yield func(ipvs.RealKey, ipvs.Real) bool) {
		for key, entry := range t {
			for at, r := range entry.Reals {
				if !yield(ipvs.RealKeyOf(key, at), r.Real) {
					return
				}
			}
		}
	}
}

// Prune quiesces what is wanted no more, looks whom that left with connections, and removes the rest. It looks last: a
// connection that came between a look and the weight would belong to a real server that is gone a moment later.
func (r *realsLayer) Prune(ctx context.Context) {
	r.quiesce(ctx)
	busy := r.busy(ctx)
	r.Remove(ctx, func(k ipvs.RealKey) bool { return r.MayDel(k) && !busy[k] })
	// The times of what is wanted again or gone are forgotten.
	maps.DeleteFunc(r.draining, func(k ipvs.RealKey, _ drain) bool { return !busy[k] && !r.HasFailed(k) })
	r.look = false
}

// abrupt reports whether a virtual server has no connections to wait for: UDP has none, and those that were made through an alias need
// it no more. Of what their clients send the first packet alone passed IPVS, which told connection tracking the endpoint
// (ip_vs_update_conntrack in net/netfilter/ipvs/ip_vs_nfct.c): tracking sends all later ones there, in the place of the alias.
func abrupt(k ipvs.Key) bool { return k.Proto == inet.UDP || inAliases(k) }

// quiesce gives weight 0 to what is wanted no more and may have connections.
func (r *realsLayer) quiesce(ctx context.Context) {
	var keys []ipvs.RealKey
	for k := range r.extras() {
		if known, _ := r.Table.Known(k); known.Weight > 0 {
			keys = append(keys, k)
		}
	}
	none := ipvs.Real{Weight: 0}
	r.CarryOut(ctx, r.Due(keys, r.Compare), func(k ipvs.RealKey) ipvs.Op { return r.Add(k, none, true) },
		func(k ipvs.RealKey) { r.Table.Learn(k, none) })
}

// busy returns the real servers that are wanted no more, have connections and may keep them. Those that drain already are
// taken to do so until it is time to look.
func (r *realsLayer) busy(ctx context.Context) map[ipvs.RealKey]bool {
	busy, extras := map[ipvs.RealKey]bool{}, map[ipvs.Key][]ipvs.RealKey{}
	for k := range r.extras() {
		extras[k.Server] = append(extras[k.Server], k)
	}
	for _, server := range slices.SortedFunc(maps.Keys(extras), ipvs.Key.Compare) {
		if !r.look && !slices.ContainsFunc(extras[server], r.isNew) {
			for _, k := range extras[server] {
				busy[k] = true
			}
			continue
		}
		r.lookAt(ctx, server, extras[server], busy)
	}
	return busy
}

func (r *realsLayer) isNew(k ipvs.RealKey) bool {
	_, draining := r.draining[k]
	return !draining
}

// lookAt reads which of a virtual server's real servers are busy. Unreadable is not idle.
func (r *realsLayer) lookAt(ctx context.Context, server ipvs.Key, extras []ipvs.RealKey, busy map[ipvs.RealKey]bool) {
	entry, err := r.kernel.ReadServer(ctx, server)
	for _, k := range extras {
		state := entry.Reals[k.AddrPort()]
		switch {
		case err != nil:
			r.Fail(k, fmt.Errorf("read %v: %w", server, err))
		case state.Active+state.Inactive > 0 && r.mayStay(k, state):
			busy[k] = true
		}
	}
}

// extras yields the real servers that are wanted no more, without those that failed and those that have no connections to
// wait for.
func (r *realsLayer) extras() iter.Seq[ipvs.RealKey] {
	return func(yield func(ipvs.RealKey) bool) {
		for k := range r.Table.Extra() {
			if r.MayDel(k) && !r.HasFailed(k) && !abrupt(k.Server) && !yield(k) {
				return
			}
		}
	}
}

// mayStay says that a real server that is wanted no more may keep the connections that it has.
func (r *realsLayer) mayStay(k ipvs.RealKey, state ipvs.RealState) bool {
	if r.listed(k) {
		r.draining[k] = drain{}
		return true
	}
	now, d := time.Now(), r.draining[k]
	if d.unlisted.IsZero() {
		d.unlisted = now
	}
	if state.Active > 0 {
		d.quiet = time.Time{}
	} else if d.quiet.IsZero() {
		d.quiet = now
	}
	r.draining[k] = d
	return now.Sub(d.unlisted) < r.limit && (d.quiet.IsZero() || now.Sub(d.quiet) < quietLimit)
}

// Pending leaves out what drains: that is as it should be.
func (r *realsLayer) Pending() int {
	n := r.Table.Pending()
	for k := range r.draining {
		if !r.HasFailed(k) {
			n--
		}
	}
	return n
}

// listed reports whether a slice still lists the endpoint of a real server that is wanted no more.
func (d *Dataplane) listed(k ipvs.RealKey) bool {
	fe := d.frontends[k.Server]
	return fe != nil && slices.Contains(fe.Draining, k.AddrPort())
}

// doReals carries out changes to real servers. The flows to a UDP server that is removed are stale, whatever the kernel
// answers: a reply may be lost.
func (d *Dataplane) doReals(ctx context.Context, ops []ipvs.Op) []error {
	for _, op := range ops {
		if op.Verb == ipvs.DelReal {
			d.flows.add(d.trackedAs(op.Key))
		}
	}
	return d.cfg.IPVS.Do(ctx, ops)
}

// Drains implements loop.Drainer.
func (d *Dataplane) Drains(a plan.Address) []loop.Drain {
	var out []loop.Drain
	for k, drain := range d.realLayer.draining {
		if k.Server == KeyOf(a) || k.Server == AliasKey(a) {
			out = append(out, loop.Drain{At: k.AddrPort(), Unlisted: drain.unlisted})
		}
	}
	slices.SortFunc(out, func(a, b loop.Drain) int { return a.At.Compare(b.At) })
	return out
}
