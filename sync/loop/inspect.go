package loop

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/sync/plan"
)

// A Drainer is a Dataplane that reports draining endpoints: they keep connections but get no new ones.
type Drainer interface {
	Drains(plan.Address) []Drain
}

// A Drain is an endpoint that gets no new connections and still has some.
type Drain struct {
	At       netip.AddrPort
	Unlisted time.Time // when the last slice dropped it; zero: one lists it
}

// A Meter reads the kernel's counts of connections and traffic, without the loop. It may be called from any goroutine.
type Meter interface {
	// Loads returns the loads of a frontend's endpoints, draining ones included.
	Loads(context.Context, *plan.Frontend) (map[netip.AddrPort]Load, error)

	// AllLoads reads the loads of all frontends at once, without counters, and returns those of one after the other.
	AllLoads(context.Context) (func(*plan.Frontend) (map[netip.AddrPort]Load, error), error)

	// Totals returns the load of all frontends that have any: the sums of their endpoints.
	Totals(context.Context) (map[plan.Address]Load, error)

	// Uncounted returns, in words for an operator, why Counters stand still, or "" if they do not. Connections are right all the same.
	Uncounted(context.Context) string
}

// A Load is the kernel's state of an endpoint behind a frontend, or of all of them.
type Load struct {
	Weight           uint32 // 0: no new connections
	Active, Inactive uint32 // connections: established ones, and others
	Counters
}

// Counters count traffic since the kernel got an endpoint or frontend; they may be seconds old. "In" is from clients.
type Counters struct {
	Connections           uint64
	InPackets, OutPackets uint64
	InBytes, OutBytes     uint64
}

// Add returns the sums of two loads, with the greater weight.
func (l Load) Add(o Load) Load {
	return Load{Weight: max(l.Weight, o.Weight), Active: l.Active + o.Active, Inactive: l.Inactive + o.Inactive, Counters: l.Counters.Add(o.Counters)}
}

// Add returns the sums of two counts.
func (c Counters) Add(o Counters) Counters {
	return Counters{
		Connections: c.Connections + o.Connections,
		InPackets:   c.InPackets + o.InPackets, OutPackets: c.OutPackets + o.OutPackets,
		InBytes: c.InBytes + o.InBytes, OutBytes: c.OutBytes + o.OutBytes,
	}
}

// Since returns the traffic since an earlier count. What was removed and added meanwhile counts from zero.
func (c Counters) Since(before Counters) Counters {
	if c.Connections < before.Connections || c.InPackets < before.InPackets || c.OutPackets < before.OutPackets ||
		c.InBytes < before.InBytes || c.OutBytes < before.OutBytes {
		return c
	}
	return Counters{
		Connections: c.Connections - before.Connections,
		InPackets:   c.InPackets - before.InPackets, OutPackets: c.OutPackets - before.OutPackets,
		InBytes: c.InBytes - before.InBytes, OutBytes: c.OutBytes - before.OutBytes,
	}
}

// An Inspection is a snapshot of one Service. It refers to the loop's data, which must not be changed.
type Inspection struct {
	Desired     *plan.Desired
	Problems    []plan.Problem // as reported
	Waiting     int            // changes not programmed yet
	Frontends   []InspectedFrontend
	Explanation plan.Explanation // of the source's current Service
	Created     time.Time
}

// An InspectedFrontend is a frontend of a Service.
type InspectedFrontend struct {
	*plan.Frontend
	Owner      plan.Name // the Service that gets its traffic
	OwnerKind  plan.Kind // what the address is of that Service
	Programmed bool      // with all its endpoints
	Status     Status
	Drains     []Drain
}

// ServedFor returns why the frontend is not served for this Service, but for its owner: in the words of the Service's Event.
func (fe *InspectedFrontend) ServedFor() string { return servedFor(fe.Owner, fe.OwnerKind, fe.Kind) }

// ErrUnknown is returned for a Service that does not exist or is not served here.
var ErrUnknown = errors.New("no such Service is served")

// errEnded is returned for questions to a loop that has ended.
var errEnded = errors.New("the loop has ended")

// Inspect returns a snapshot of a Service. It may be called from any goroutine; the loop answers between two sync passes, at
// the cost of one Service, and the caller's goroutine does the expensive part.
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
		out.Explanation, out.Created = plan.Explain(cfg, svc, in, node), svc.Created
	}
	return out, nil
}

// Names returns the names of all known Services, in order. It may be called from any goroutine.
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

// Owner returns the Service that owns the frontend at an address, if any. It may be called from any goroutine.
func (l *Loop) Owner(ctx context.Context, a plan.Address) (owner plan.Name, isOwned bool, err error) {
	err = l.ask(ctx, func() {
		var first claimed
		if first, isOwned = l.owners.winner(a); isOwned {
			owner = first.by.desired.Service
		}
	})
	return owner, isOwned, err
}

// ask runs a question in the loop's goroutine and waits for it. One that comes too late is not asked.
func (l *Loop) ask(ctx context.Context, question func()) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	answered := make(chan struct{})
	select {
	case l.questions <- func() { question(); close(answered) }:
	case <-l.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-answered // the loop has taken it, and does nothing else meanwhile
	return nil
}

// inspect does the loop's part of Inspect: all but the explanation.
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
			x.Owner, x.OwnerKind = first.by.desired.Service, first.fe.Kind
		}
		if drainer != nil {
			x.Drains = drainer.Drains(fe.Address)
		}
		out.Frontends = append(out.Frontends, x)
	}
	return out, true
}
