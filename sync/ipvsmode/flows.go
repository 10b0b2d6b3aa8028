package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// A flowsLayer deletes tracked UDP flows to endpoints that serve no more, or past all endpoints. It has no table, only the frontends
// that lost an endpoint or were turned on since their flows were last deleted. TCP has resets; a UDP client that keeps its port
// would reach no endpoint as long as it sends.
type flowsLayer struct {
	kernel conntrack.Kernel
	keep   func(ipvs.Key) map[netip.AddrPort]struct{} // endpoints to which a frontend's flows may go
	wanted func(ipvs.Key) bool                        // a Service has the frontend
	stale  map[ipvs.Key]struct{}
	failed error // of their deletion
	count  *reconcile.Counters

	flushed func(f inet.Family, start time.Time, deleted int) // counts an attempt
}

func (f *flowsLayer) Name() string            { return "flows" }
func (f *flowsLayer) Invalidate()             {}
func (f *flowsLayer) Retry()                  { f.failed = nil }
func (f *flowsLayer) Unknown() bool           { return false }
func (f *flowsLayer) Blocked() bool           { return false }
func (f *flowsLayer) Err() error              { return f.failed }
func (f *flowsLayer) Known() int              { return 0 }
func (f *flowsLayer) Pending() int            { return len(f.stale) }
func (f *flowsLayer) Observe(context.Context) {}
func (f *flowsLayer) Ensure(context.Context)  {}

// Failing implements reconcile.Layer: flows fail together.
func (f *flowsLayer) Failing() int {
	if f.failed == nil {
		return 0
	}
	return len(f.stale)
}

// add marks a frontend's flows stale: they may go to a removed endpoint.
func (f *flowsLayer) add(key ipvs.Key) {
	if key.Proto == inet.UDP {
		f.stale[key] = struct{}{}
	}
}

// Prune deletes the flows, after the removal of the real servers, or IPVS would send the next packet there again.
func (f *flowsLayer) Prune(ctx context.Context) {
	if len(f.stale) == 0 || f.failed != nil {
		return
	}
	frontends := map[inet.Family][]conntrack.Frontend{}
	for key := range f.stale {
		family := inet.FamilyOf(key.Addr)
		frontends[family] = append(frontends[family], conntrack.Frontend{Proto: key.Proto, At: key.AddrPort(), Keep: f.keep(key)})
	}
	var errs []error
	for _, family := range slices.Sorted(maps.Keys(frontends)) {
		f.count.Asked(1)
		start := time.Now()
		deleted, err := f.kernel.Delete(ctx, frontends[family])
		f.flushed(family, start, deleted)
		if err != nil {
			f.count.Failed(err)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		f.failed = fmt.Errorf("delete stale UDP flows: %w", err)
		f.bound()
		return
	}
	f.stale = map[ipvs.Key]struct{}{} // clearing a map costs its capacity, which at the start was all frontends
}

// mostGone bounds the removed frontends that are remembered while their flows cannot be deleted.
const mostGone = 10_000

// bound forgets removed frontends if there are too many. On a kernel that never deletes flows, added and removed Services
// would fill the memory.
func (f *flowsLayer) bound() {
	gone := 0
	for key := range f.stale {
		if f.wanted(key) {
			continue
		}
		if gone++; gone > mostGone {
			delete(f.stale, key)
		}
	}
}

func (d *Dataplane) flowsLayer() *flowsLayer {
	wanted := func(key ipvs.Key) bool { return d.frontends[key] != nil }
	return &flowsLayer{kernel: d.cfg.Flows, keep: d.serving, wanted: wanted, stale: map[ipvs.Key]struct{}{}, count: d.count.layer("flows"), flushed: d.count.flushed}
}

// serving returns the endpoints to which the flows of a UDP frontend may go.
func (d *Dataplane) serving(key ipvs.Key) map[netip.AddrPort]struct{} {
	out := map[netip.AddrPort]struct{}{}
	if fe := d.frontends[key]; fe != nil {
		for _, at := range slices.Concat(fe.Backends, fe.Draining) {
			out[at] = struct{}{}
		}
	}
	return out
}

// keepsFlows reports whether the flows of a UDP frontend may go to an endpoint: to all that serve, also if it gets no new ones from
// some sources, or from any. So it is with connections over TCP, and with kube-proxy.
func keepsFlows(fe *plan.Frontend, at netip.AddrPort) bool {
	return fe != nil && (isAmong(fe.Backends, at) || isAmong(fe.Draining, at))
}

// isAmong reports whether endpoints, which are in order, have one.
func isAmong(list []netip.AddrPort, at netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(list, at, netip.AddrPort.Compare)
	return found
}

// trackedAs returns the frontend under which conntrack has a virtual server's flows: itself, or the frontend of the alias.
func (d *Dataplane) trackedAs(server ipvs.Key) ipvs.Key {
	if of, internal := d.tables.aliasOf(server); internal {
		return of
	}
	return server
}

// invalidateFlows marks the flows of all UDP frontends of a family stale after its rules were written: flows tracked without
// rules keep their way. And at the start, a killed process may have removed real servers and not their flows.
func (d *Dataplane) invalidateFlows(f inet.Family) {
	for key := range d.frontends {
		if inet.FamilyOf(key.Addr) == f {
			d.flows.add(key)
		}
	}
}
