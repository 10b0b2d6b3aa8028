package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/plan"
)

// A rulesLayer is the layer of one family's rules, which are one object. To look at them and to make them takes programs,
// which wait while others hold the lock of all such programs, and may hang. So a job does it, one at a time, and the loop
// goes on meanwhile: what is known stands until the job has an answer, and only what needs the rules waits for them.
type rulesLayer struct {
	kernel iptables.Kernel
	rules  iptables.Ruleset
	count  *counters
	start  func(job func()) // starts a job; the loop takes a turn when it has ended
	mended func()           // called when they were made
	quiet  func() bool      // reports whether their failure is told elsewhere
	with   layer            // doubted when they could not be made: that of the sets that they refer to

	stands     bool
	trace      iptables.Trace // of the rules when they were last seen to stand; "": not since they were made
	doubted    bool           // it may not stand any more
	unreadable error          // why that could not be looked at
	failed     error          // why it could not be made to stand
	job        chan func()    // of the job that is under way: in the end, what takes its answer over; nil: none is

	differed  bool          // they were found changed, and the lookout does not know yet
	suspected time.Time     // when the trace was seen to be another one that led to the next look, or zero
	pause     time.Duration // how long the trace was not asked for when such a look had come to nothing
	until     time.Time     // until when it is not
}

func (l *Loop) rulesLayer(f ipset.Family) *rulesLayer {
	rules := plan.Rules(plan.RulesConfig{
		Marks: l.cfg.Marks, Detector: l.cfg.Detector, Bind: l.cfg.Plan.Bind, PredictablePorts: l.cfg.PredictablePorts,
	}, f)
	return &rulesLayer{
		kernel: l.cfg.Rules, rules: rules, count: l.count.layer("rules " + rules.Family.String()), start: l.background,
		mended: func() { l.suspectFlows(f) }, with: l.setLayer, quiet: func() bool { return l.givenUp(f) },
	}
}

// background starts a job. When it has ended the loop takes a turn; Run waits for it.
func (l *Loop) background(job func()) {
	l.jobs.Go(func() {
		job()
		l.cfg.Queue.Note(answered)
	})
}

// unsettled says that an attempt to make the kernel equal to what is wanted has not ended yet: it depends on the answer of a
// job.
func (l *Loop) unsettled() bool { return slices.ContainsFunc(l.rules, (*rulesLayer).unsettled) }

// unsettled says that rules are being made, or that they could not be read and are looked at again.
func (r *rulesLayer) unsettled() bool {
	return r.job != nil && (!r.stands || r.unreadable != nil) && !r.quiet()
}

func (r *rulesLayer) name() string          { return "rules " + r.rules.Family.String() }
func (r *rulesLayer) doubt()                { r.doubted = true }
func (r *rulesLayer) unread() bool          { return r.unreadable != nil }
func (r *rulesLayer) hinders() bool         { return r.unread() && !r.quiet() }
func (r *rulesLayer) prune(context.Context) {}

// trouble leaves out what is being tried again.
func (r *rulesLayer) trouble() error {
	if r.quiet() {
		return nil
	}
	return r.why()
}

// why is trouble, whoever tells it.
func (r *rulesLayer) why() error {
	if r.job != nil {
		return nil
	}
	return errors.Join(r.unreadable, r.failed)
}

// again does nothing while a job is under way: whether that fails is not known yet.
func (r *rulesLayer) again() {
	if r.job != nil {
		return
	}
	r.doubted = r.doubted || r.unreadable != nil
	if r.failed != nil {
		r.with.doubt()
	}
	r.failed = nil
}

func (r *rulesLayer) pending() int {
	if r.stands || r.quiet() {
		return 0
	}
	return 1
}

// begin starts a job. The layer is the loop's alone: what the job returns is called when the loop takes its answer over.
func (r *rulesLayer) begin(job func() func()) {
	answer := make(chan func(), 1)
	r.job = answer
	r.start(func() { answer <- job() })
}

// observe takes over the answer of a job, and looks whether what was ensured stands. At start nothing was, and nothing is
// looked at. A doubt that comes while a job is under way is for the next one.
func (r *rulesLayer) observe(ctx context.Context) {
	select {
	case takeOver := <-r.job:
		r.job = nil
		takeOver()
	default:
	}
	if !r.doubted || !r.stands || r.job != nil {
		return
	}
	r.count.reads.Inc()
	r.doubted = false
	r.begin(func() func() {
		// The trace is taken first: what changes in between differs from it.
		trace, err := r.kernel.Trace(ctx, r.rules.Family)
		stands := false
		if err == nil {
			stands, err = r.kernel.Stands(ctx, r.rules.Family)
		}
		return func() { r.looked(trace, stands, err) }
	})
}

func (r *rulesLayer) looked(trace iptables.Trace, stands bool, err error) {
	if err != nil {
		r.unreadable = fmt.Errorf("read %s: %w", r.name(), err)
		return
	}
	r.stands, r.trace, r.unreadable = stands, trace, nil
	r.differed = r.differed || !stands
	if at := r.suspected; stands && !at.IsZero() {
		if at.Sub(r.until) >= pauseMost {
			r.pause = 0 // nobody did anything for as long
		}
		r.pause = min(max(2*r.pause, pauseLeast), pauseMost)
		r.until = at.Add(r.pause)
	}
	r.suspected = time.Time{}
}

// The least and the most time between looks at rules for the sake of a trace that others change with rules of their own. A
// network agent may do so every second, and each look is a process. Whatever else raises a doubt is looked into at once.
const (
	pauseLeast = time.Second
	pauseMost  = time.Minute
)

// suspect doubts the rules if they may have changed since they were last seen to stand. If the trace cannot be taken the
// look will say why. A job that is under way takes a trace of its own.
func (r *rulesLayer) suspect(ctx context.Context) {
	now := time.Now()
	if !r.stands || r.job != nil || r.unreadable != nil || now.Before(r.until) {
		return
	}
	trace, err := r.kernel.Trace(ctx, r.rules.Family)
	if err == nil && trace == r.trace {
		return
	}
	r.doubted = true
	if r.trace != "" {
		r.suspected = now
	}
}

func (r *rulesLayer) ensure(ctx context.Context) {
	if r.stands || r.failed != nil || r.job != nil {
		return
	}
	r.count.asked(1)
	r.doubted = false
	r.begin(func() func() {
		err := r.kernel.Ensure(ctx, r.rules)
		return func() { r.made(err) }
	})
}

func (r *rulesLayer) made(err error) {
	if err != nil {
		r.count.failures.Inc()
		r.failed = fmt.Errorf("%s: %w", r.name(), err)
		return
	}
	// What somebody did between the rules and the trace would be in the trace. So there is none yet: the next look takes
	// one, and then sees whether the rules stand.
	r.stands, r.trace = true, ""
	r.pause, r.until = 0, time.Time{}
	r.mended()
}
