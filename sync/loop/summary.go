package loop

import (
	"context"
	"time"
)

// A Summary sums up what a loop knows and what it has programmed.
type Summary struct {
	Services  int // known
	Waiting   int // of them, those that changed and are not planned yet
	Unserved  int // parts of Services that cannot be used or served
	Conflicts int // of them, frontends that another Service, or somebody else, has
	Totals

	// Sums are those of the Services' digests by group, odd numbers; 0 where one changed within the time asked for.
	Sums []uint32
}

// Totals are the numbers of a data plane's objects.
type Totals struct {
	Frontends   int // that are wanted, of families that the node has
	Programmed  int // frontends that are on
	RealServers int // endpoints of all frontends, draining ones included
	Draining    int // of them, those that get no new connections and still have some
	Pending     int // kernel objects that are not as wanted
	Refused     int // of them, those whose change the kernel refused
	Repaired    int // external changes that were repaired since the start
}

// A Totaler is a Dataplane that counts its objects.
type Totaler interface {
	Totals() Totals
}

// Summary returns a summary. It may be called from any goroutine, and costs the same however many Services there are.
func (l *Loop) Summary(ctx context.Context, quiet time.Duration) (Summary, error) {
	var out Summary
	err := l.ask(ctx, func() {
		out = Summary{
			Services: len(l.services), Waiting: l.cfg.Queue.Len() + len(l.dirty), Unserved: l.unserved, Conflicts: l.conflicting,
			Sums: make([]uint32, Groups),
		}
		if t, counts := l.dataplane.(Totaler); counts {
			out.Totals = t.Totals()
		}
		for g := range out.Sums {
			if l.digests.hasSettled(g, quiet) {
				out.Sums[g] = uint32(l.digests.sums[g]>>32) | 1
			}
		}
	})
	return out, err
}
