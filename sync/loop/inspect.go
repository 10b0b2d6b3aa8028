package loop

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// A Drainer is a Dataplane that tells which endpoints keep connections though they get no new ones.
type Drainer interface {
	Drains(plan.Address) []Drain
}

// A Drain is an endpoint that gets no new connections and still has some.
type Drain struct {
	At       netip.AddrPort
	Unlisted time.Time // since when no slice lists it; zero: one does
}

// An Inspection is what is known of one Service at one moment. What it refers to is the loop's, and not to be changed.
type Inspection struct {
	Desired     *plan.Desired
	Problems    []plan.Problem // as they were reported
	Waiting     int            // changes that are not programmed yet
	Frontends   []InspectedFrontend
	Explanation plan.Explanation // of the Service as the source has it now
}

// An InspectedFrontend is a frontend of a Service.
type InspectedFrontend struct {
	*plan.Frontend
	Owner      plan.Name // the Service that it is served for
	Programmed bool      // with all its endpoints
	Status     Status
	Drains     []Drain
}

// ErrUnknown is why a Service cannot be inspected: there is none, or none that is served here.
var ErrUnknown = errors.New("no such Service is served")

// errEnded is why a loop gives no answer any more.
var errEnded = errors.New("the loop has ended")

// Inspect returns what is known of a Service. It may be called from any goroutine; the loop answers between two turns, at the
// cost of one Service, and what needs more thought is done by the caller.
func (l *Loop) Inspect(ctx context.Context, name plan.Name) (Inspection, error) {
	var out Inspection
	var cfg plan.Config
	var node plan.Node
	found := false
	err := l.ask(ctx, func() { out, found = l.inspect(name); cfg, node = l.cfg.Plan, l.node })
	if err == nil && !found {
		err = ErrUnknown
	}
	if err != nil {
		return Inspection{}, err
	}
	if svc, in, ok := l.cfg.Source.Service(name); ok {
		out.Explanation = plan.Explain(cfg, svc, in, node)
	}
	return out, nil
}

// Names returns the names of all Services that are known, in order. It may be called from any goroutine.
func (l *Loop) Names(ctx context.Context) ([]plan.Name, error) {
	var out []plan.Name
	err := l.ask(ctx, func() {
		out = make([]plan.Name, 0, len(l.services))
		for name := range l.services {
			out = append(out, name)
		}
	})
	slices.SortFunc(out, plan.Name.Compare)
	return out, err
}

// Owner returns the Service that has a frontend at an address, if there is one. It may be called from any goroutine.
func (l *Loop) Owner(ctx context.Context, a plan.Address) (owner plan.Name, isOwned bool, err error) {
	err = l.ask(ctx, func() {
		var first claimed
		if first, isOwned = l.owners.winner(a); isOwned {
			owner = first.by.desired.Service
		}
	})
	return owner, isOwned, err
}

// ask has a question answered by the goroutine of the loop, and waits for that.
func (l *Loop) ask(ctx context.Context, question func()) error {
	answered := make(chan struct{})
	select {
	case l.questions <- func() { question(); close(answered) }:
	case <-l.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-answered // the loop has it, and does nothing else
	return nil
}

// inspect answers Inspect, but for the explanation.
func (l *Loop) inspect(name plan.Name) (Inspection, bool) {
	s := l.services[name]
	if s == nil {
		return Inspection{}, false
	}
	drainer, _ := l.dataplane.(Drainer)
	out := Inspection{Desired: &s.desired, Problems: s.problems, Waiting: len(l.waiting[name])}
	for i := range s.desired.Frontends {
		fe := &s.desired.Frontends[i]
		x := InspectedFrontend{Frontend: fe, Status: l.dataplane.Status(fe.Address), Programmed: l.dataplane.IsProgrammed(fe.Address)}
		if first, has := l.owners.winner(fe.Address); has {
			x.Owner = first.by.desired.Service
		}
		if drainer != nil {
			x.Drains = drainer.Drains(fe.Address)
		}
		out.Frontends = append(out.Frontends, x)
	}
	return out, true
}
