package loop

import (
	"context"
	"net/netip"
	"time"

	"kube-ipvs/sync/plan"
)

// A Dataplane programs the kernel to forward packets. One goroutine uses it; only Sync and Verify touch the kernel.
type Dataplane interface {
	// SetNode sets the node and the service ranges.
	SetNode(plan.Node, []netip.Prefix)
	// Update replaces a frontend's state. Either may be nil.
	Update(old, new *plan.Frontend)
	// UpdateService replaces a Service's state beside its frontends: hairpins and health checks. Either may be nil.
	UpdateService(old, new *plan.Desired)
	// Invalidate marks the known state of a part as possibly stale.
	Invalidate(Part)
	// Sync reconciles the kernel with the desired state. Once it has read the kernel state that updates depend on, it calls
	// update, which brings frontends up to date. Nil: the desired state is not known yet, so nothing is changed.
	Sync(ctx context.Context, update func()) Result
	// Verify checks at bounded cost for external changes of the kernel, and reports whether a Sync is due.
	Verify(context.Context) bool
	// IsProgrammed reports whether the kernel has all endpoints of a frontend.
	IsProgrammed(plan.Address) bool
	// Status returns the reasons why a frontend is not served as requested.
	Status(plan.Address) Status
}

// A Part is a component of a Dataplane's knowledge of the kernel.
type Part uint8

// The parts.
const (
	Failures   Part = 1 << iota // failed operations: a retry is due
	Routing                     // the link, addresses, routes and rules of the routing policy
	Everything                  // all components
)

// A Result is the outcome of a sync, and when the next one is due.
type Result struct {
	Err     error          // nil: the kernel is in sync, but for the work of a running job
	Blocked bool           // more than single objects cannot be programmed
	Busy    bool           // the result depends on a running job; another sync follows when it ends
	Idle    bool           // nothing was changed
	Changed []plan.Address // frontends with a new Status
	Next    time.Time      // when the next sync is due by itself; zero: after the next change

	Repaired []string // components with external changes that were repaired
}

// A Status has the reasons why a frontend is not served as requested, in words of a user. The zero Status: it is.
type Status struct {
	Family  string // why its address family does not work on this node
	Lacks   string // that this node does not have its address family: no Service is told, as nothing is wrong
	Limited string // why it is served in part only
	Refused error  // why it is not served: the kernel refused an object, or an object is foreign
}
