// Package loop reconciles a data plane with the Services. It wakes on changes, plans dirty Services, decides which of several
// claimants owns an address, syncs the data plane, and retries failures with back-off. One goroutine does all of this, except
// for the data plane's work in Queue.Go. The package knows no proxy mode: a Dataplane carries the plan out.
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

// A Config configures a Loop. Fields are required unless their comment explains the zero value.
type Config struct {
	Source    Source
	Queue     *Queue
	Dataplane Dataplane
	Plan      plan.Config // its ServiceCIDRs are the source's

	// LookInterval is the interval of checks for changes that the kernel does not announce; 0: never.
	LookInterval time.Duration

	// Node returns this node and the service CIDRs. After an error the previous ones stay valid.
	Node func(context.Context) (plan.Node, []netip.Prefix, error)

	// Health sets the answer of a Service's health-check node port; nil when it no longer has one.
	Health func(plan.Name, *plan.Health)

	// Report is called with a Service's problems, and notes on parts that are served all the same, whenever they change.
	// None: all problems are solved, or the Service is gone.
	Report func(plan.Name, []plan.Problem)

	// Converged is called at the end of every sync: with nil, or the reasons why the kernel is not as desired, which are
	// ErrObjects if they concern single objects only. A sync lasts as long as rules are being made, whatever else is
	// programmed meanwhile.
	Converged func(error)

	// Beat is called repeatedly as long as the loop is not stuck. Nil: not called.
	Beat func()

	Metrics *Metrics
}

// LookInterval is the program's Config.LookInterval: external changes are repaired within a second.
const LookInterval = 500 * time.Millisecond

// A Loop reconciles a data plane with a Source.
type Loop struct {
	cfg       Config
	dataplane Dataplane
	started   time.Time
	node      plan.Node

	services map[plan.Name]*service
	owners   owners
	moved    map[plan.Address]struct{} // frontends with a new owner or status since problems were last reported

	history history
	dirty   map[plan.Name]struct{} // Services to plan again
	what    Changed                // other changes not handled yet; Synced stays
	located bool                   // the node is known
	begun   bool                   // planning has begun
	count   *Metrics
	waiting map[plan.Name][]change // changes of endpoints not programmed yet

	digests               digests
	unserved, conflicting int // sums of the Services' numbers

	questions chan func()   // from other goroutines
	ended     chan struct{} // closed when the loop no longer answers
}

// New returns a loop. Nothing is done before Run.
func New(cfg Config) *Loop {
	if cfg.Beat == nil {
		cfg.Beat = func() {}
	}
	return &Loop{
		cfg: cfg, dataplane: cfg.Dataplane, services: map[plan.Name]*service{}, owners: owners{}, moved: map[plan.Address]struct{}{},
		count: cfg.Metrics, dirty: map[plan.Name]struct{}{}, waiting: map[plan.Name][]change{},
		questions: make(chan func()), ended: make(chan struct{}),
	}
}

// Run reconciles until the context ends, and leaves the kernel's state in place then. It touches nothing before the queue
// has noted that the sources are synced.
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
			continue // the sources are incomplete; Synced plans everything
		}
		l.cfg.Queue.waits() // also for changes during the previous pass, which reported success at its end
		result, err := l.pass(ctx)
		if result.Busy {
			l.cfg.Queue.waits()
		} else {
			l.cfg.Converged(err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !result.Busy || err != nil { // a running job may still fail
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

// ticks returns the times of checks for changes that the kernel does not announce.
func (l *Loop) ticks() (ticks <-chan time.Time, stop func()) {
	if l.cfg.LookInterval == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(l.cfg.LookInterval)
	return t.C, t.Stop
}

// take moves the changes out of the queue, and reports whether the sources are synced.
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

// The bounds of the time until a retry.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// remindInterval is the interval at which the same failure is logged again.
const remindInterval = 10 * time.Minute
