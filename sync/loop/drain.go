package loop

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// A realsLayer is the layer of real servers. One that is wanted no more keeps the connections that it has: it gets
// weight 0 and is removed when they are gone. Being drained is weight 0 and connections left, as the kernel says, so
// that a restart forgets nothing, and one that is wanted again is one change of weight.
type realsLayer struct {
	tableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]
	kernel ipvs.Kernel
	limit  time.Duration
	listed func(ipvs.RealKey) bool // the endpoint is still in a slice, so that it may take its time

	draining map[ipvs.RealKey]time.Time // since when it is listed no more, or zero
}

// drainInterval is how often draining real servers are looked at: each look is one dump of their virtual server's.
const drainInterval = 2 * time.Second

func (l *Loop) realsLayer() *realsLayer {
	r := &realsLayer{kernel: l.cfg.IPVS, limit: l.cfg.DrainLimit, listed: l.listed, draining: map[ipvs.RealKey]time.Time{}}
	r.tableLayer = tableLayer[ipvs.RealKey, ipvs.Real, ipvs.Op]{
		title: "reals", table: l.tables.reals, compare: ipvs.RealKey.Compare, doubted: true, count: l.count.layer("reals"),
		mayAdd: func(k ipvs.RealKey) bool {
			_, there := l.tables.servers.Known(k.Server)
			return there
		},
		// With a virtual server that goes the kernel removes its real servers.
		mayDel: func(k ipvs.RealKey) bool {
			_, wanted := l.tables.servers.Wanted(k.Server)
			return wanted
		},
		read: func(ctx context.Context) (iter.Seq2[ipvs.RealKey, ipvs.Real], error) {
			table, err := l.readTable(ctx)
			return realsOf(table), err
		},
		do: l.doReals,
		add: func(k ipvs.RealKey, r ipvs.Real, there bool) ipvs.Op {
			if there {
				return ipvs.Op{Verb: ipvs.SetReal, Key: k.Server, Addr: k.AddrPort(), Real: r}
			}
			return ipvs.Op{Verb: ipvs.AddReal, Key: k.Server, Addr: k.AddrPort(), Real: r}
		},
		del: func(k ipvs.RealKey) ipvs.Op { return ipvs.Op{Verb: ipvs.DelReal, Key: k.Server, Addr: k.AddrPort()} },
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

// prune removes what has no connections left and quiesces the rest.
func (r *realsLayer) prune(ctx context.Context) error {
	busy, err := r.busy(ctx)
	if err != nil {
		return err // unreadable is not idle
	}
	r.forget()
	var quiesce []ipvs.RealKey
	for k := range busy {
		if known, _ := r.table.Known(k); known.Weight > 0 {
			quiesce = append(quiesce, k)
		}
	}
	slices.SortFunc(quiesce, r.compare)
	ops := make([]ipvs.Op, len(quiesce))
	for i, k := range quiesce {
		ops[i] = r.add(k, ipvs.Real{Weight: 0}, true)
	}
	if err := r.carryOut(ctx, ops, func(i int) { r.table.Learn(quiesce[i], ipvs.Real{Weight: 0}) }); err != nil {
		return err
	}
	return r.remove(ctx, func(k ipvs.RealKey) bool { return r.mayDel(k) && !busy[k] })
}

// busy returns the extra real servers that have connections and may keep them.
func (r *realsLayer) busy(ctx context.Context) (map[ipvs.RealKey]bool, error) {
	busy := map[ipvs.RealKey]bool{}
	for server, extras := range r.extras() {
		if server.Proto == ipvs.UDP {
			continue // no connection to wait for
		}
		entry, err := r.kernel.ReadServer(ctx, server)
		if err != nil {
			r.doubted = true
			return nil, fmt.Errorf("read %v: %w", server, err)
		}
		for _, k := range extras {
			state := entry.Reals[k.AddrPort()]
			if state.Active+state.Inactive > 0 && !r.overdue(k) {
				busy[k] = true
			}
		}
	}
	return busy, nil
}

// extras groups the real servers that are wanted no more by their virtual servers.
func (r *realsLayer) extras() map[ipvs.Key][]ipvs.RealKey {
	out := map[ipvs.Key][]ipvs.RealKey{}
	for k := range r.table.Extra() {
		if r.mayDel(k) {
			out[k.Server] = append(out[k.Server], k)
		}
	}
	return out
}

// overdue says that a real server that is listed no more has had its time.
func (r *realsLayer) overdue(k ipvs.RealKey) bool {
	since := r.draining[k]
	switch {
	case r.listed(k):
		since = time.Time{}
	case since.IsZero():
		since = time.Now()
	}
	r.draining[k] = since
	return !since.IsZero() && time.Since(since) >= r.limit
}

// forget forgets the times of what is wanted again or gone.
func (r *realsLayer) forget() {
	maps.DeleteFunc(r.draining, func(k ipvs.RealKey, _ time.Time) bool {
		_, wanted := r.table.Wanted(k)
		_, known := r.table.Known(k)
		return wanted || !known
	})
}

// pending leaves out what drains: that is as it should be.
func (r *realsLayer) pending() int { return r.table.Pending() - len(r.draining) }

// drainAgain returns when to look at draining real servers again, or nil if there are none.
func (l *Loop) drainAgain() <-chan time.Time {
	if len(l.realLayer.draining) == 0 {
		return nil
	}
	return time.After(drainInterval)
}

// listed says that a slice still lists the endpoint of a real server that is wanted no more.
func (l *Loop) listed(k ipvs.RealKey) bool {
	if k.Server.Mark == 0 {
		x, ok := l.claims.winner(k.Server)
		return ok && slices.Contains(x.fe.Draining, k.AddrPort())
	}
	list, ok := l.numbers.owner(l.cfg.Marks.NumberOf(k.Server.Mark))
	s := l.services[list.Service]
	if !ok || s == nil {
		return false
	}
	return slices.ContainsFunc(s.fragment.Frontends, func(fe plan.Frontend) bool {
		return usesList(fe, list) && slices.Contains(fe.Inside.Draining, k.AddrPort())
	})
}
