package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/reconcile"
)

// A takeover is the layer of kube-proxy's rules and sets, of any of its modes. It is the last one: they are removed once all
// that they serve is served by kube-ipvs, one step after the other, each an object of the layer. While both exist, a connection
// is served by either: rules of kube-ipvs come first in nat, and translated connections stay with conntrack.
//
// Rules that come back are written by a kube-proxy that runs. They are left alone from then on, and reported.
type takeover struct {
	d     *Dataplane
	count *reconcile.Counters
	job   reconcile.Job

	state   takeoverState
	steps   []iptables.Removal // that are left
	removed bool               // one was carried out
	needed  map[string]bool    // sets that rules of others lead to, by way of chains that stay; the job's
	err     error              // of the last step, or read
}

// A takeoverState is the knowledge about kube-proxy's rules and sets.
type takeoverState uint8

const (
	unread   takeoverState = iota // not read yet, or to be read again; without a sign of them they never are
	working                       // a job reads, or removes and reads
	found                         // there are steps
	gone                          // there are none
	cameBack                      // somebody makes them anew
)

// stepInterval is the time between syncs while something of kube-proxy's waits: what was just turned on may be what it waits for.
const stepInterval = time.Second

func (d *Dataplane) takeoverLayer() *takeover {
	return &takeover{d: d, needed: map[string]bool{}, count: d.count.layer("kube-proxy"), job: reconcile.Job{Start: d.cfg.Queue.Go}}
}

func (t *takeover) Name() string          { return "kube-proxy" }
func (t *takeover) Invalidate()           {}
func (t *takeover) Unknown() bool         { return false }
func (t *takeover) Blocked() bool         { return false }
func (t *takeover) Err() error            { return t.err }
func (t *takeover) Prune(context.Context) {}

// Pending returns the number of steps that are left, unless somebody else needs the rules.
func (t *takeover) Pending() int {
	if t.state == cameBack {
		return 0
	}
	return len(t.steps)
}

// Known implements reconcile.Layer.
func (t *takeover) Known() int { return 0 }

// Failing implements reconcile.Layer: the steps fail one after the other.
func (t *takeover) Failing() int {
	if t.err != nil {
		return 1
	}
	return 0
}

// Retry reads again after a failure, which lasts until that succeeds.
func (t *takeover) Retry() {
	if t.err != nil && t.state != working {
		t.state = unread
	}
}

// Observe takes over the result of a job, or begins to read. Once all is removed it costs nothing: checks of the own rules see
// if others came back.
func (t *takeover) Observe(ctx context.Context) {
	t.job.TakeOver()
	switch {
	case t.state == unread && (t.err != nil || t.sawRules() || t.d.predecessor.isThere):
		t.begin(ctx, nil)
	case t.state == gone && t.sawRules():
		t.state = cameBack
	}
}

// isUnderWay reports whether kube-proxy's rules or sets may still serve.
func (t *takeover) isUnderWay() bool {
	return t.state != gone && t.state != cameBack && (t.sawRules() || t.d.predecessor.isThere)
}

func (t *takeover) sawRules() bool {
	for _, f := range t.d.cfg.Families {
		if t.d.cfg.Rules.SawKubeProxy(f) {
			return true
		}
	}
	return false
}

// Ensure carries out the next step if kube-ipvs serves all.
func (t *takeover) Ensure(ctx context.Context) {
	if t.state == unread && t.d.servesAll() {
		t.state = gone // nothing of kube-proxy's was there at the start: what comes later is written by one that runs
	}
	if t.state != found || t.err != nil || !t.d.servesAll() {
		return
	}
	t.count.Asked(1)
	t.removed = true
	t.begin(ctx, t.steps)
}

// begin carries out the first of some steps in the background. After the last one, and without any, it reads those that are left.
func (t *takeover) begin(ctx context.Context, steps []iptables.Removal) {
	t.state = working
	if len(steps) <= 1 {
		t.count.Reads.Inc()
	}
	t.job.Begin(func() func() {
		var err error
		if len(steps) > 0 {
			if err = steps[0].Do(ctx); err != nil {
				err = fmt.Errorf("remove %v: %w", steps[0], err)
			}
		}
		if len(steps) <= 1 && err == nil {
			steps, err = t.read(ctx)
		} else if err == nil {
			steps = steps[1:]
		}
		return func() { t.did(ctx, steps, err) }
	})
}

// did takes over the result of a job.
func (t *takeover) did(ctx context.Context, steps []iptables.Removal, err error) {
	switch {
	case err != nil:
		t.count.Failed(err)
		t.state, t.err = found, err
		return
	case len(steps) > 0:
		t.state, t.steps, t.err = found, steps, nil
		return
	}
	t.state, t.steps, t.err = gone, nil, nil
	for _, r := range t.d.rules {
		r.forget()
	}
	t.d.predecessor.forget()
	if t.removed {
		klog.FromContext(ctx).Info("Took this node over from kube-proxy; its rules and sets are removed")
	}
}

// read returns the steps that are left: rules, then the sets that they refer to.
func (t *takeover) read(ctx context.Context) ([]iptables.Removal, error) {
	var out []iptables.Removal
	for _, f := range t.d.cfg.Families {
		steps, err := t.d.cfg.Rules.KubeProxy(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("rules of kube-proxy: %w", err)
		}
		out = append(out, steps...)
	}
	names, err := t.d.cfg.Sets.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("sets of kube-proxy: %w", err)
	}
	for _, name := range names {
		if isKubeProxySet(name) && !t.needed[name] {
			out = append(out, iptables.Step("set "+name, func(ctx context.Context) error { return t.destroy(ctx, name) }))
		}
	}
	return out, nil
}

// destroy destroys a set. All rules of kube-proxy that can go are gone by then, so one that is in use stays.
func (t *takeover) destroy(ctx context.Context, name string) error {
	err := t.d.cfg.Sets.Destroy(ctx, name)
	if errors.Is(err, ipset.ErrInUse) {
		t.needed[name] = true
		return nil
	}
	return err
}

// servesAll reports whether all that Services need is in place, and all that they do not need is gone but for draining endpoints.
func (d *Dataplane) servesAll() bool {
	for f, sets := range d.tables.families {
		if !d.givenUp(f) && (!d.stands(f) || !d.isServed(sets.Frontends) || !d.isServed(sets.External)) {
			return false
		}
	}
	for range d.tables.servers.Extra() {
		return false
	}
	for _, r := range d.refusals {
		if r.whole {
			return false
		}
	}
	return d.begun
}

// KubeProxy is the field of the problems of a node on which kube-proxy runs, too.
const KubeProxy = "kube-proxy"

// errCameBack is a problem of the node.
var errCameBack = errors.New("its rules come back: it runs beside kube-ipvs, and both serve; its rules are left alone until kube-ipvs is restarted: remove kube-proxy from this node")
