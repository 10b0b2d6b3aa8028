package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/reconcile"
)

// A rulesLayer is the layer of one family's rules, which are one object. To check and to write them takes commands, which
// wait while others hold the lock of all such commands, and may hang. So a job does it, one at a time, and the loop goes on
// meanwhile: what is known is true until the job has an answer, and only objects that need the rules wait for them.
type rulesLayer struct {
	kernel  iptables.Kernel
	rules   iptables.Ruleset
	count   *reconcile.Counters
	written func()          // called when the rules were written
	drifted func()          // called when they were found changed
	quiet   func() bool     // reports whether their failure is reported elsewhere
	with    reconcile.Layer // invalidated when they could not be written: that of the sets that they refer to

	state    rulesState
	job      reconcile.Job
	stale    bool           // while in sync: they may have changed, and are to be checked
	trace    iptables.Trace // of the rules when they were last seen in sync; "": not since they were written
	readErr  error          // why they could not be checked, or nil
	writeErr error          // why they could not be written, or nil

	polls reconcile.Throttle // of traces
}

// A rulesState is what is known of a family's rules.
//
//	         Ensure            written             Observe, if stale
//	missing ───────▶ writing ─────────▶ inSync ─────────────────────▶ checking
//	   ▲  ▲             │ failed           ▲      unchanged, or failed    │
//	   │  └─────────────┘                  └──────────────────────────────┤
//	   └────────────────────────────── changed ───────────────────────────┘
//
// A failure is kept in writeErr or readErr until Retry. Rules that are being checked are in sync until the answer is there.
type rulesState uint8

const (
	missing  rulesState = iota // or changed by others, or never looked at: they are to be written
	writing                    // a job writes them
	inSync                     // as wanted, as far as is known
	checking                   // in sync, and a job checks that
)

// The least and the most time between checks of the rules for the sake of a trace that others change with rules of their
// own. A network agent may do so every second, and each check is a process. Whatever else makes them stale has them checked
// at once.
const (
	pauseLeast = time.Second
	pauseMost  = time.Minute
)

func (d *Dataplane) rulesLayer(f inet.Family) *rulesLayer {
	rules := Rules(RulesConfig{
		Marks: d.cfg.Marks, Detector: d.cfg.Detector, Bind: d.cfg.Plan.Bind, PredictablePorts: d.cfg.PredictablePorts,
	}, f)
	return &rulesLayer{
		kernel: d.cfg.Rules, rules: rules, count: d.count.layer("rules " + rules.Family.String()),
		written: func() { d.suspectFlows(f) }, drifted: func() { d.drift("rules") }, with: d.setLayer, quiet: func() bool { return d.givenUp(f) },
		job:   reconcile.Job{Start: d.cfg.Queue.Go},
		polls: reconcile.Throttle{Min: pauseLeast, Max: pauseMost},
	}
}

// unsettled reports whether an attempt to make the kernel equal to what is wanted has not ended yet: it depends on the
// answer of a job.
func (d *Dataplane) unsettled() bool { return slices.ContainsFunc(d.rules, (*rulesLayer).unsettled) }

// unsettled reports whether rules are being written, or could not be checked and are checked again.
func (r *rulesLayer) unsettled() bool {
	return (r.state == writing || r.state == checking && r.readErr != nil) && !r.quiet()
}

// isInSync reports whether the rules are as wanted, as far as is known.
func (r *rulesLayer) isInSync() bool { return r.state == inSync || r.state == checking }

// isBusy reports whether a job is under way.
func (r *rulesLayer) isBusy() bool { return r.state == writing || r.state == checking }

func (r *rulesLayer) Name() string          { return "rules " + r.rules.Family.String() }
func (r *rulesLayer) Invalidate()           { r.stale = true }
func (r *rulesLayer) Unknown() bool         { return r.readErr != nil }
func (r *rulesLayer) Blocked() bool         { return r.Unknown() && !r.quiet() }
func (r *rulesLayer) Prune(context.Context) {}

// Err leaves out what is being tried again.
func (r *rulesLayer) Err() error {
	if r.quiet() {
		return nil
	}
	return r.why()
}

// why is Err, wherever it is reported.
func (r *rulesLayer) why() error {
	if r.isBusy() {
		return nil
	}
	return errors.Join(r.readErr, r.writeErr)
}

// Retry does nothing while a job is under way: whether that fails is not known yet.
func (r *rulesLayer) Retry() {
	if r.isBusy() {
		return
	}
	r.stale = r.stale || r.readErr != nil
	if r.writeErr != nil {
		r.with.Invalidate()
	}
	r.writeErr = nil
}

func (r *rulesLayer) Pending() int {
	if r.isInSync() || r.quiet() {
		return 0
	}
	return 1
}

// Observe takes over the answer of a job, and has stale rules checked. At start none were written, and nothing is checked.
// Rules that become stale while a job is under way are checked after it.
func (r *rulesLayer) Observe(ctx context.Context) {
	r.job.TakeOver()
	if r.state != inSync || !r.stale {
		return
	}
	r.count.Reads.Inc()
	r.state, r.stale = checking, false
	r.job.Begin(func() func() {
		// The trace is taken first: what changes in between differs from it.
		trace, err := r.kernel.Trace(ctx, r.rules.Family)
		same := false
		if err == nil {
			same, err = r.kernel.Stands(ctx, r.rules.Family)
		}
		return func() { r.checked(trace, same, err) }
	})
}

// checked takes over the answer of a check.
func (r *rulesLayer) checked(trace iptables.Trace, same bool, err error) {
	r.state = inSync
	if err != nil {
		r.readErr = fmt.Errorf("read %s: %w", r.Name(), err)
		return
	}
	r.trace, r.readErr = trace, nil
	if !same {
		r.state = missing
		r.drifted()
	}
	r.polls.Checked(same)
}

// poll makes the rules stale if they may have changed since they were last seen in sync. If the trace cannot be taken the
// check will say why. A job that is under way takes a trace of its own.
func (r *rulesLayer) poll(ctx context.Context) {
	now := time.Now()
	if r.state != inSync || r.readErr != nil || r.polls.Pauses(now) {
		return
	}
	trace, err := r.kernel.Trace(ctx, r.rules.Family)
	if err == nil && trace == r.trace {
		return
	}
	r.stale = true
	if r.trace != "" {
		r.polls.Polled(now)
	}
}

func (r *rulesLayer) Ensure(ctx context.Context) {
	if r.state != missing || r.writeErr != nil {
		return
	}
	r.count.Asked(1)
	r.state, r.stale = writing, false
	r.job.Begin(func() func() {
		err := r.kernel.Ensure(ctx, r.rules)
		return func() { r.wrote(err) }
	})
}

// wrote takes over the answer of a write. A trace taken now might already include a change of somebody else's. There is none
// yet: the next poll leads to a check, which takes one before it compares the rules.
func (r *rulesLayer) wrote(err error) {
	if err != nil {
		r.count.Failures.Inc()
		r.state, r.writeErr = missing, fmt.Errorf("%s: %w", r.Name(), err)
		return
	}
	r.state, r.trace = inSync, ""
	r.polls.Reset()
	r.written()
}

// remove removes the rules, whatever they are, and waits for that.
func (r *rulesLayer) remove(ctx context.Context) error {
	if r.isBusy() {
		return fmt.Errorf("remove %s: they are being checked or written", r.Name())
	}
	r.state, r.trace, r.writeErr, r.readErr = missing, "", nil, nil
	if err := r.kernel.Remove(ctx, r.rules.Family); err != nil {
		return fmt.Errorf("remove %s: %w", r.Name(), err)
	}
	return nil
}

// pollRules makes rules stale whose trace is another one. Whether they differ a check finds out, which takes its time.
func (d *Dataplane) pollRules(ctx context.Context) {
	for _, r := range d.rules {
		r.poll(ctx)
	}
}
