package ipvsmode

import (
	"github.com/prometheus/client_golang/prometheus"

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
// meanwhile: the known state holds until the job has a result, and only objects that need the rules wait for them.
type rulesLayer struct {
	kernel  iptables.Kernel
	rules   iptables.Ruleset
	count   *reconcile.Counters
	refused prometheus.Counter // of attempts to write them
	written func()             // called after the rules were written
	drifted func()             // called after they were found changed
	quiet   func() bool        // reports whether their failure is reported elsewhere
	with    reconcile.Layer    // of the sets that they refer to; invalidated when they could not be written

	state       rulesState
	job         reconcile.Job
	stale       bool                 // while in sync: they may have changed and must be checked
	fingerprint iptables.Fingerprint // of the rules when they were last seen in sync; "": not since the last write
	readErr     error                // why they could not be checked, or nil
	writeErr    error                // why they could not be written, or nil

	polls reconcile.Throttle // of fingerprints
}

// A rulesState is the known state of a family's rules.
//
//	         Ensure            written             Observe, if stale
//	missing ───────▶ writing ─────────▶ inSync ─────────────────────▶ checking
//	   ▲  ▲             │ failed           ▲      unchanged, or failed    │
//	   │  └─────────────┘                  └──────────────────────────────┤
//	   └────────────────────────────── changed ───────────────────────────┘
//
// A failure is kept in writeErr or readErr until Retry. Rules that are being checked count as in sync until the result.
type rulesState uint8

const (
	missing  rulesState = iota // or changed by others, or never checked: to be written
	writing                    // a job writes them
	inSync                     // as desired, as far as is known
	checking                   // in sync, and a job checks that
)

// The least and the most time between checks of the rules because of a fingerprint that others change with rules of their own. A
// network agent may do so every second, and each check is a process. All other reasons to check have no delay.
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
		refused: d.count.ruleFailures.WithLabelValues(f.String()),
		written: func() { d.invalidateFlows(f) }, drifted: func() { d.drift(rulesPart) }, with: d.setLayer, quiet: func() bool { return d.givenUp(f) },
		job:   reconcile.Job{Start: d.cfg.Queue.Go},
		polls: reconcile.Throttle{Min: pauseLeast, Max: pauseMost},
	}
}

// unsettled reports whether a sync has not ended yet: it depends on the result of a job.
func (d *Dataplane) unsettled() bool { return slices.ContainsFunc(d.rules, (*rulesLayer).unsettled) }

// unsettled reports whether rules are being written, or could not be checked and are checked again.
func (r *rulesLayer) unsettled() bool {
	return (r.state == writing || r.state == checking && r.readErr != nil) && !r.quiet()
}

// isInSync reports whether the rules are as desired, as far as is known.
func (r *rulesLayer) isInSync() bool { return r.state == inSync || r.state == checking }

// isBusy reports whether a job is under way.
func (r *rulesLayer) isBusy() bool { return r.state == writing || r.state == checking }

func (r *rulesLayer) Name() string          { return "rules " + r.rules.Family.String() }
func (r *rulesLayer) Invalidate()           { r.stale = true }
func (r *rulesLayer) Unknown() bool         { return r.readErr != nil }
func (r *rulesLayer) Blocked() bool         { return r.Unknown() && !r.quiet() }
func (r *rulesLayer) Prune(context.Context) {}

// Err leaves out failures that are being retried.
func (r *rulesLayer) Err() error {
	if r.quiet() {
		return nil
	}
	return r.why()
}

// why is Err, even if the failure is reported elsewhere.
func (r *rulesLayer) why() error {
	if r.isBusy() {
		return nil
	}
	return errors.Join(r.readErr, r.writeErr)
}

// Retry does nothing while a job is under way: its result is not known yet.
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

func (r *rulesLayer) Known() int {
	if !r.isInSync() {
		return 0
	}
	return 1
}

func (r *rulesLayer) Failing() int {
	if r.Err() == nil {
		return 0
	}
	return 1
}

func (r *rulesLayer) Pending() int {
	if r.isInSync() || r.quiet() {
		return 0
	}
	return 1
}

// Observe takes over the result of a job, and has stale rules checked. At start none were written, and none are checked.
// Rules that become stale while a job is under way are checked after it.
func (r *rulesLayer) Observe(ctx context.Context) {
	r.job.TakeOver()
	if r.state != inSync || !r.stale {
		return
	}
	r.count.Reads.Inc()
	r.state, r.stale = checking, false
	r.job.Begin(func() func() {
		// The fingerprint is taken first: a change in between differs from it.
		fingerprint, err := r.kernel.Fingerprint(ctx, r.rules.Family)
		same := false
		if err == nil {
			same, err = r.kernel.InSync(ctx, r.rules.Family)
		}
		return func() { r.checked(fingerprint, same, err) }
	})
}

// checked takes over the result of a check.
func (r *rulesLayer) checked(fingerprint iptables.Fingerprint, same bool, err error) {
	r.state = inSync
	if err != nil {
		r.readErr = fmt.Errorf("read %s: %w", r.Name(), err)
		return
	}
	r.fingerprint, r.readErr = fingerprint, nil
	if !same {
		r.state = missing
		r.drifted()
	}
	r.polls.Checked(same)
}

// poll makes the rules stale if they may have changed since they were last seen in sync. If the fingerprint cannot be taken, the
// check reports why. A job that is under way takes a fingerprint of its own.
func (r *rulesLayer) poll(ctx context.Context) {
	now := time.Now()
	if r.state != inSync || r.readErr != nil || r.polls.Pauses(now) {
		return
	}
	fingerprint, err := r.kernel.Fingerprint(ctx, r.rules.Family)
	if err == nil && fingerprint == r.fingerprint {
		return
	}
	r.stale = true
	if r.fingerprint != "" {
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

// wrote takes over the result of a write. A fingerprint taken now might already include a foreign change, so it stays empty: the
// next poll leads to a check, which takes one before it compares the rules.
func (r *rulesLayer) wrote(err error) {
	if err != nil {
		r.count.Failed(err)
		r.refused.Inc()
		r.state, r.writeErr = missing, fmt.Errorf("%s: %w", r.Name(), err)
		return
	}
	r.state = inSync
	r.forget()
	r.written()
}

// forget forgets the fingerprint after rules were changed here. The next poll leads to a check: a change by others that makes them as
// they were before would not be noticed.
func (r *rulesLayer) forget() {
	r.fingerprint = ""
	r.polls.Reset()
}

// remove removes the rules in any state, and waits for that.
func (r *rulesLayer) remove(ctx context.Context) error {
	if r.isBusy() {
		return fmt.Errorf("remove %s: they are being checked or written", r.Name())
	}
	r.state, r.fingerprint, r.writeErr, r.readErr = missing, "", nil, nil
	if err := r.kernel.Remove(ctx, r.rules.Family); err != nil {
		return fmt.Errorf("remove %s: %w", r.Name(), err)
	}
	return nil
}

// pollRules makes rules stale whose fingerprint changed. A check, which takes its time, finds out whether they differ.
func (d *Dataplane) pollRules(ctx context.Context) {
	for _, r := range d.rules {
		r.poll(ctx)
	}
}
