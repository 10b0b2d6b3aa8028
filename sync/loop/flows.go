package loop

import (
	"context"
	"fmt"
	"net/netip"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
)

// A flowsLayer deletes tracked UDP flows that go to endpoints which are gone, or past all of them. It has no table: what it
// holds are the frontends that lost a real server or were turned on since their flows were last looked at. TCP has resets and draining; a UDP client that
// keeps its port would send to nobody as long as it sends.
type flowsLayer struct {
	kernel conntrack.Kernel
	keep   func(ipvs.Key) map[netip.AddrPort]struct{} // who serves a frontend
	wanted func(ipvs.Key) bool                        // a Service has the frontend
	stale  map[ipvs.Key]struct{}
	failed error // why they could not be deleted
	count  *counters
}

func (f *flowsLayer) name() string            { return "flows" }
func (f *flowsLayer) doubt()                  {}
func (f *flowsLayer) again()                  { f.failed = nil }
func (f *flowsLayer) unread() bool            { return false }
func (f *flowsLayer) hinders() bool           { return false }
func (f *flowsLayer) trouble() error          { return f.failed }
func (f *flowsLayer) pending() int            { return len(f.stale) }
func (f *flowsLayer) observe(context.Context) {}
func (f *flowsLayer) ensure(context.Context)  {}

// add notes that flows of a frontend may go to an endpoint that is gone.
func (f *flowsLayer) add(key ipvs.Key) {
	if key.Proto == ipvs.UDP {
		f.stale[key] = struct{}{}
	}
}

// prune deletes the flows. It comes after the real servers are gone, or IPVS would send the next packet there again.
func (f *flowsLayer) prune(ctx context.Context) {
	if len(f.stale) == 0 || f.failed != nil {
		return
	}
	var frontends []conntrack.Frontend
	for key := range f.stale {
		frontends = append(frontends, conntrack.Frontend{Proto: uint8(key.Proto), At: key.AddrPort(), Keep: f.keep(key)})
	}
	f.count.asked(1)
	if _, err := f.kernel.Delete(ctx, frontends); err != nil {
		f.count.failures.Inc()
		f.failed = fmt.Errorf("delete stale UDP flows: %w", err)
		f.bound()
		return
	}
	f.stale = map[ipvs.Key]struct{}{} // to empty the one that held all frontends at the start costs what it held
}

// mostGone is how many frontends are remembered that no Service has any more while their flows cannot be deleted.
const mostGone = 10_000

// bound forgets frontends that are gone when there are too many. On a kernel that never deletes flows, and with Services that
// come and go, they would fill the memory.
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

func (l *Loop) flowsLayer() *flowsLayer {
	wanted := func(key ipvs.Key) bool { _, ok := l.claims.winner(key); return ok }
	return &flowsLayer{kernel: l.cfg.Flows, keep: l.serving, wanted: wanted, stale: map[ipvs.Key]struct{}{}, count: l.count.layer("flows")}
}

// serving returns who serves a frontend, for internal sources or external ones.
func (l *Loop) serving(key ipvs.Key) map[netip.AddrPort]struct{} {
	out := map[netip.AddrPort]struct{}{}
	x, ok := l.claims.winner(key)
	if !ok {
		return out
	}
	for _, at := range x.fe.Reals {
		out[at] = struct{}{}
	}
	if x.fe.Internal != nil {
		for _, at := range x.fe.Internal.Reals {
			out[at] = struct{}{}
		}
	}
	return out
}

// doReals carries out changes to real servers. The flows to a UDP server that is removed are stale, whatever the kernel
// answers: a reply may be lost.
func (l *Loop) doReals(ctx context.Context, ops []ipvs.Op) []error {
	for _, op := range ops {
		if op.Verb == ipvs.DelReal {
			l.flows.add(l.trackedAs(op.Key))
		}
	}
	return l.cfg.IPVS.Do(ctx, ops)
}

// trackedAs returns the frontend that conntrack's flows to a virtual server were sent to: itself, or the one whose alias it is.
func (l *Loop) trackedAs(server ipvs.Key) ipvs.Key {
	if of, internal := l.tables.aliasOf(server); internal {
		return of
	}
	return server
}

// doFrontends turns frontends on and off. What was sent to one before it was on, or was refused, is tracked as it went then:
// as long as a client goes on from the same port it would neither be masqueraded nor find its way back.
func (l *Loop) doFrontends(ctx context.Context, ops []ipset.Op) []error {
	for _, op := range ops {
		if op.Verb == ipset.Add {
			l.flows.add(keyOf(op.Member))
		}
	}
	return l.cfg.Sets.Do(ctx, ops)
}

// suspectFlows marks the flows of all UDP frontends of a family whose rules were made: what was tracked while they did not
// stand is tracked as it went then. And at the start, a program that was killed may have removed real servers and not flows.
func (l *Loop) suspectFlows(f ipset.Family) {
	for key := range l.claims {
		if ipset.FamilyOf(key.Addr) == f {
			l.flows.add(key)
		}
	}
}
