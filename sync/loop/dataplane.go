package loop

import (
	"context"
	"net/netip"
	"time"

	"kube-ipvs/sync/plan"
)

// A Dataplane forwards packets as it is told. One goroutine uses it; only Sync and Verify touch the kernel.
type Dataplane interface {
	// SetNode notes what is known of the node, and the service ranges.
	SetNode(plan.Node, []netip.Prefix)
	// Update puts one state of a frontend in the place of another. Either may be nil.
	Update(old, new *plan.Frontend)
	// UpdateService does so with what a Service needs beside its frontends: hairpins and health checks.
	UpdateService(old, new *plan.Desired)
	// Invalidate notes that what is known of a part may be stale.
	Invalidate(Part)
	// Sync makes the kernel as it is to be. Once all that an update depends on was read from the kernel it calls update,
	// which brings frontends up to date. Nil: it is not known yet what is wanted, so nothing is changed.
	Sync(ctx context.Context, update func()) Result
	// Verify looks at bounded cost whether others changed the kernel, and reports whether a Sync is due.
	Verify(context.Context) bool
	// IsProgrammed reports whether the kernel has all endpoints of a frontend.
	IsProgrammed(plan.Address) bool
	// Status returns what keeps a frontend from being served as it was asked for.
	Status(plan.Address) Status
}

// A Part is something that a Dataplane knows of the kernel.
type Part uint8

// The parts.
const (
	Failures   Part = 1 << iota // what failed: it is due to be tried again
	Routing                     // the link, addresses, routes and rules of the routing policy
	Everything                  // all of it
)

// A Result is the outcome of a sync, and when the next one is due.
type Result struct {
	Err     error          // nil: the kernel is as it is to be, but for what a job goes on to do
	Blocked bool           // more than single objects cannot be programmed
	Busy    bool           // a job is under way that the result depends on; another sync follows when it ends
	Idle    bool           // nothing was changed
	Changed []plan.Address // whose Status is another one
	Next    time.Time      // when the next sync is due of itself; zero: when something changes
}

// A Status is the reasons why a frontend is not served as it was asked for, each in words of a user. The zero Status: it is.
type Status struct {
	Family  string // why its address family does not work on this node
	Limited string // it is served, but not as a whole
	Refused error  // it is not served: an object of the kernel was refused, or is somebody else's
}
