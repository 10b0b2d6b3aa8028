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
	listed func(ipvs.RealKey) bool // reports whether the endpoint may take its time

	prepare    func(context.Context) // makes the treatments of frontends fit before they get endpoints
	leavesSoon func(ipvs.Key) bool   // reports whether a virtual server's endpoints must have left before its treatment changes

	draining *drains
	look     bool     // it is time to check draining ones
	checked  ipvs.Key // the last virtual server whose draining ones were checked
}

func (d *Dataplane) realsLayer() *realsLayer {
	r := &realsLayer{
		kernel: d.cfg.IPVS, limit: d.cfg.DrainLimit, listed: d.listed, draining: d.tables.draining,
		prepare: d.stopKeeping, leavesSoon: d.beginsToKeep,
	}
	r.TableLayer = reconcile.TableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]{
		Title: "reals", Table: d.tables.reals, Compare: ipvs.RealKey.Compare, Count: d.count.layer("reals"),
		MayAdd: func(k ipvs.RealKey) bool { return d.serverLayer.Present(k.Server) && !d.stopsKeeping(k.Server) },
		// With a virtual server the kernel removes its real servers.
		MayDel: func(k ipvs.RealKey) bool {
			_, wanted := d.tables.servers.Wanted(k.Server)
			return wanted
		},
		Read: func(ctx context.Context) (iter.Seq2[ipvs.RealKey, ipvs.Real], error) {
			table, err := d.table.get(ctx)
			return realsOf(table), err
		},
		Aside: func(k ipvs.RealKey) bool { return d.foreign.has(k.Server) },
		// The kernel has no real server at some addresses, such as the broadcast address of one of the node's networks. A slice with one
		// is refused at every frontend of its Service.
		Blames: func(k ipvs.RealKey) any { return k.Addr },
		Do:     d.doReals,
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

// Ensure also quiesces those whose virtual server's frontend is about to keep the source of clients.
func (r *realsLayer) Ensure(ctx context.Context) {
	r.prepare(ctx)
	r.TableLayer.Ensure(ctx)
	r.quiesce(ctx, func(k ipvs.RealKey) bool { return r.leavesSoon(k.Server) })
}

// Prune quiesces undesired real servers, keeps those that still have connections, and removes the rest. It checks last:
// a connection made between a check and the change of weight would belong to a real server that is removed a moment later.
func (r *realsLayer) Prune(ctx context.Context) {
	if r.look {
		r.release()
		r.look = false
	}
	r.quiesce(ctx, func(ipvs.RealKey) bool { return true })
	extras := slices.Collect(r.extras())
	busy := r.busy(ctx, extras)
	r.Remove(ctx, func(k ipvs.RealKey) bool { return r.MayDel(k) && !busy[k] })
	for _, k := range extras {
		switch {
		case busy[k]:
			r.Table.Keep(k)
		case !r.HasFailed(k):
			r.draining.forget(k)
		}
	}
}

// release lets the draining real servers of the next virtual servers be checked, those of the last ones last.
func (r *realsLayer) release() {
	servers := slices.SortedFunc(maps.Keys(r.draining.servers), ipvs.Key.Compare)
	next, found := slices.BinarySearchFunc(servers, r.checked, ipvs.Key.Compare)
	if found {
		next++
	}
	for i := range min(len(servers), mostChecks) {
		r.checked = servers[(next+i)%len(servers)]
		for at := range r.draining.servers[r.checked] {
			k := ipvs.RealKeyOf(r.checked, at)
			switch _, known := r.Table.Known(k); {
			case !known:
				r.draining.forget(k) // others removed it, or the answer to our removal was lost
			case r.MayDel(k):
				r.Table.Release(k)
			}
		}
	}
}

// isAbrupt reports whether a real server goes at once. Clients of UDP would not notice that their endpoint serves no more. And connections
// that were made through an alias do not need it: only the first packet from their clients passed IPVS, which told connection tracking the
// endpoint (ip_vs_update_conntrack in net/netfilter/ipvs/ip_vs_nfct.c). Tracking sends all later ones there, in the place of the alias.
func (r *realsLayer) isAbrupt(k ipvs.RealKey) bool {
	return inAliases(k.Server) || k.Server.Proto == inet.UDP && !r.listed(k)
}

// quiesce gives weight 0 to those undesired real servers that may have connections.
func (r *realsLayer) quiesce(ctx context.Context, those func(ipvs.RealKey) bool) {
	var keys []ipvs.RealKey
	for k := range r.extras() {
		if known, _ := r.Table.Known(k); known.Weight > 0 && those(k) {
			keys = append(keys, k)
		}
	}
	none := ipvs.Real{Weight: 0}
	r.CarryOut(ctx, r.Due(keys, r.Compare), func(k ipvs.RealKey) ipvs.Op { return r.Add(k, none, true) },
		func(k ipvs.RealKey) { r.Table.Learn(k, none) })
}

// busy returns those of undesired real servers that have connections and may keep them.
func (r *realsLayer) busy(ctx context.Context, extras []ipvs.RealKey) map[ipvs.RealKey]bool {
	busy, of := map[ipvs.RealKey]bool{}, map[ipvs.Key][]ipvs.RealKey{}
	for _, k := range extras {
		of[k.Server] = append(of[k.Server], k)
	}
	for _, server := range slices.SortedFunc(maps.Keys(of), ipvs.Key.Compare) {
		r.lookAt(ctx, server, of[server], busy)
	}
	return busy
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

// extras yields the undesired real servers, without those that failed and those that go at once.
func (r *realsLayer) extras() iter.Seq[ipvs.RealKey] {
	return func(yield func(ipvs.RealKey) bool) {
		for k := range r.Table.Extra() {
			if r.MayDel(k) && !r.HasFailed(k) && !r.isAbrupt(k) && !yield(k) {
				return
			}
		}
	}
}

// mayStay reports whether an undesired real server may keep its connections.
func (r *realsLayer) mayStay(k ipvs.RealKey, state ipvs.RealState) bool {
	if r.listed(k) {
		r.draining.note(k, drain{})
		return true
	}
	now, d := time.Now(), r.draining.of(k)
	if d.unlisted.IsZero() {
		d.unlisted = now
	}
	if state.Active > 0 {
		d.quiet = time.Time{}
	} else if d.quiet.IsZero() {
		d.quiet = now
	}
	r.draining.note(k, d)
	return now.Sub(d.unlisted) < r.limit && (d.quiet.IsZero() || now.Sub(d.quiet) < quietLimit)
}

// listed reports whether a slice still lists the endpoint of an undesired real server; of UDP, whether it still serves.
func (d *Dataplane) listed(k ipvs.RealKey) bool {
	fe := d.frontends[k.Server]
	return fe != nil && isAmong(fe.Draining, k.AddrPort())
}

// endUDP ends the flows of a UDP frontend to endpoints that serve no more, and the drains of their real servers. Others have flows
// although they have no real server: those of an alias.
func (d *Dataplane) endUDP(before, now *plan.Frontend) {
	server := KeyOf(now.Address)
	if server.Proto != inet.UDP || !d.tables.has(server.Addr) || d.isForeign(server) {
		return
	}
	for _, at := range slices.Concat(before.Backends, before.Draining) {
		if !keepsFlows(now, at) {
			k := ipvs.RealKeyOf(server, at)
			d.tables.draining.forget(k)
			d.tables.reals.Release(k)
			d.flows.add(server)
		}
	}
}

// doReals carries out changes to real servers. The flows to a removed UDP server are stale if its endpoint serves no more, whatever the
// kernel answers: a reply may be lost.
func (d *Dataplane) doReals(ctx context.Context, ops []ipvs.Op) []error {
	for _, op := range ops {
		if op.Verb != ipvs.DelReal {
			continue
		}
		if of := d.trackedAs(op.Key); !keepsFlows(d.frontends[of], op.Addr) {
			d.flows.add(of)
		}
	}
	return d.cfg.IPVS.Do(ctx, ops)
}
