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

// A realsLayer is the layer of real servers. An undesired one keeps its connections: it gets weight 0 and is removed when
// they are gone. Draining is weight 0 and connections left in the kernel, so that a restart forgets nothing, and one that
// is desired again is one change of weight.
//
// A closed connection is inactive to the kernel for two minutes more (TIME_WAIT), and so is a half-closed one, over which
// the other side may still send. Only the half-closed one notices the removal of its real server, but the kernel
// counts them together. The endpoint tells them apart: as long as a slice lists it, it may still send and keeps both, at weight 0,
// which costs nothing. After that only active connections count, once a while has passed for the last packets of the
// others.
type realsLayer struct {
	reconcile.TableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]
	kernel ipvs.Kernel
	limit  time.Duration
	listed func(ipvs.RealKey) bool // reports whether the endpoint is still in a slice, and may take its time

	draining map[ipvs.RealKey]drain
	look     bool // it is time to check draining ones
}

// A drain records since when a draining real server has been unlisted and quiet; a zero time means that it is not.
type drain struct {
	unlisted time.Time // in no slice
	quiet    time.Time // neither listed nor with active connections
}

// drainInterval is the time between checks of draining real servers, each of which dumps those of their virtual server.
const drainInterval = 2 * time.Second

// quietLimit is how long an unlisted real server is kept for inactive connections alone. With the time until a check it is
// removed within five seconds of its last active connection.
const quietLimit = drainInterval

func (d *Dataplane) realsLayer() *realsLayer {
	r := &realsLayer{
		kernel: d.cfg.IPVS, limit: d.cfg.DrainLimit, listed: d.listed, draining: map[ipvs.RealKey]drain{},
	}
	r.TableLayer = reconcile.TableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]{
		Title: "reals", Table: d.tables.reals, Compare: ipvs.RealKey.Compare, Count: d.count.layer("reals"),
		MayAdd: func(k ipvs.RealKey) bool { return d.serverLayer.Present(k.Server) },
		// With a virtual server the kernel removes its real servers.
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

// Prune quiesces undesired real servers, checks which of them still have connections, and removes the rest. It checks last:
// a connection made between a check and the change of weight would belong to a real server that is removed a moment later.
func (r *realsLayer) Prune(ctx context.Context) {
	r.quiesce(ctx)
	busy := r.busy(ctx)
	r.Remove(ctx, func(k ipvs.RealKey) bool { return r.MayDel(k) && !busy[k] })
	// The times of removed and again desired ones are forgotten.
	maps.DeleteFunc(r.draining, func(k ipvs.RealKey, _ drain) bool { return !busy[k] && !r.HasFailed(k) })
	r.look = false
}

// abrupt reports whether a virtual server has no connections to wait for: UDP has none, and those made through an alias need it no
// more. Only the first packet from their clients passed IPVS, which told connection tracking the endpoint
// (ip_vs_update_conntrack in net/netfilter/ipvs/ip_vs_nfct.c): tracking sends all later ones there, in the place of the alias.
func abrupt(k ipvs.Key) bool { return k.Proto == inet.UDP || inAliases(k) }

// quiesce gives weight 0 to undesired real servers that may have connections.
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

// busy returns the undesired real servers that have connections and may keep them. Draining ones are taken to be busy until
// it is time to check.
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

// lookAt reads which of a virtual server's real servers are busy. A failed read does not mean idle.
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

// extras yields the undesired real servers, without those that failed and those without connections to wait for.
func (r *realsLayer) extras() iter.Seq[ipvs.RealKey] {
	return func(yield func(ipvs.RealKey) bool) {
		for k := range r.Table.Extra() {
			if r.MayDel(k) && !r.HasFailed(k) && !abrupt(k.Server) && !yield(k) {
				return
			}
		}
	}
}

// mayStay reports whether an undesired real server may keep its connections.
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

// Pending leaves out draining real servers, which are as desired.
func (r *realsLayer) Pending() int {
	n := r.Table.Pending()
	for k := range r.draining {
		if !r.HasFailed(k) {
			n--
		}
	}
	return n
}

// listed reports whether a slice still lists the endpoint of an undesired real server.
func (d *Dataplane) listed(k ipvs.RealKey) bool {
	fe := d.frontends[k.Server]
	return fe != nil && slices.Contains(fe.Draining, k.AddrPort())
}

// doReals carries out changes to real servers. The flows to a removed UDP server are stale, whatever the kernel
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
