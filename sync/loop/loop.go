// Package loop keeps a data plane as the Services ask for. It wakes when something changed, plans what is dirty, decides who
// owns an address that several Services claim, has the data plane synced, and backs off from what fails. One goroutine does it
// all, but for work that the data plane gives to Queue.Go. It knows no mode: a Dataplane carries the plan out.
package loop

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// A Config configures a Loop. Fields are required unless their comment says otherwise.
type Config struct {
	Source    Source
	Queue     *Queue
	Dataplane Dataplane
	Plan      plan.Config // its ServiceCIDRs are the source's

	// LookInterval is how often to look at what the kernel tells nobody about; 0: never.
	LookInterval time.Duration

	// Node returns what is known of this node, and the service CIDRs. An error means that what was known stands.
	Node func(context.Context) (plan.Node, []netip.Prefix, error)

	// Health is told what a Service's health-check node port answers, nil when it has none any more.
	Health func(plan.Name, *plan.Health)

	// Report is told what of a Service cannot be served, with notes on what is served all the same, whenever that changes.
	// None: all is well again, or the Service is gone.
	Report func(plan.Name, []plan.Problem)

	// Converged is told of the end of every attempt to make the kernel equal to what is wanted: nil, or why it is not,
	// which is ErrObjects where that concerns single objects alone. An attempt lasts as long as rules are being made,
	// whatever else is programmed meanwhile.
	Converged func(error)

	// Beat is called again and again as long as the loop is not stuck. Nil: nobody is told.
	Beat func()

	Metrics *Metrics
}

// LookInterval is how often the program looks: what it sees is mended within a second.
const LookInterval = 500 * time.Millisecond

// A Loop keeps a data plane as a Source wants it.
type Loop struct {
	cfg       Config
	dataplane Dataplane
	started   time.Time
	node      plan.Node

	services map[plan.Name]*service
	owners   owners
	moved    map[plan.Address]struct{} // frontends that another Service got, or whose status changed, since Services were reviewed

	attempt time.Time              // when the attempt began that has not ended yet, or zero
	dirty   map[plan.Name]struct{} // Services that are to be planned again
	what    Changed                // what else changed and was not looked at yet; Synced stays
	located bool                   // the node is known
	begun   bool                   // planning has begun
	count   *Metrics
	waiting map[plan.Name][]time.Time // when the changes happened that are not programmed yet

	questions chan func()   // of other goroutines
	ended     chan struct{} // closed when nobody answers them any more
}

// New returns a loop. Nothing is done before Run.
func New(cfg Config) *Loop {
	if cfg.Beat == nil {
		cfg.Beat = func() {}
	}
	return &Loop{
		cfg: cfg, dataplane: cfg.Dataplane, services: map[plan.Name]*service{}, owners: owners{}, moved: map[plan.Address]struct{}{},
		count: cfg.Metrics, dirty: map[plan.Name]struct{}{}, waiting: map[plan.Name][]time.Time{},
		questions: make(chan func()), ended: make(chan struct{}),
	}
}

// Run keeps the kernel in order until the context ends; what stands then is left standing. Nothing is touched before the
// queue has been told that the sources are synced.
func (l *Loop) Run(ctx context.Context) error {
	defer l.cfg.Queue.jobs.Wait()
	defer close(l.ended)
	l.started = time.Now()
	retry := reconcile.Backoff{Min: retryLeast, Max: retryMost, Remind: remindInterval}
	var next timer
	ticks, stop := l.ticks()
	defer stop()
	for {
		l.cfg.Beat()
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if !l.begun || !l.dataplane.Verify(ctx) {
				continue
			}
		case answer := <-l.questions:
			answer()
			continue
		case <-l.cfg.Queue.wake:
		case <-retry.Timer:
			retry.Fired()
			l.dataplane.Invalidate(Failures)
		case <-next.C:
			next = timer{}
		}
		if !l.take() {
			continue // what is known is not all yet; Synced looks at everything
		}
		l.cfg.Queue.waits() // also what came during the turn before, which said at its end that all is well
		result, err := l.turn(ctx)
		if result.Busy {
			l.cfg.Queue.waits()
		} else {
			l.cfg.Converged(err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !result.Busy || err != nil { // a job that goes on may still fail
			if after, isNews := retry.Note(err); isNews {
				klog.FromContext(ctx).Error(err, "Not everything could be programmed", "retryAfter", after)
			}
		}
		next.set(result.Next)
	}
}

// A timer fires at a time that may change.
type timer struct {
	at time.Time
	C  <-chan time.Time // nil: never
}

func (t *timer) set(at time.Time) {
	switch {
	case at.IsZero():
		*t = timer{}
	case !at.Equal(t.at):
		*t = timer{at, time.After(time.Until(at))}
	}
}

// ticks returns the times to look at what the kernel tells nobody about.
func (l *Loop) ticks() (ticks <-chan time.Time, stop func()) {
	if l.cfg.LookInterval == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(l.cfg.LookInterval)
	return t.C, t.Stop
}

// take takes what changed from the queue, and reports whether the sources are synced.
func (l *Loop) take() bool {
	was := l.what
	names, what := l.cfg.Queue.take()
	if len(l.dirty) == 0 {
		l.dirty = names
	} else {
		maps.Copy(l.dirty, names)
	}
	l.what |= what
	if l.what&^was&Synced != 0 {
		l.what |= Node
	}
	return l.what&Synced != 0
}

// The least and the most time until what failed is tried again.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// remindInterval is how often the same failure is logged.
const remindInterval = 10 * time.Minute
