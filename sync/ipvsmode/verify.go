package ipvsmode

import (
	"context"
	"slices"
	"time"

	"k8s.io/klog/v2"
)

// A lookout looks, once in a while, at what the kernel tells nobody about: whether somebody else changed settings, sets,
// rules or virtual servers. It starts no process. With every look it asks for what costs the same however much there is: the
// settings, one member of each set, the state of the rules, how many virtual servers there are. So what was flushed or
// destroyed is seen at once (no set is destroyed before the rules that refer to it), and so is one virtual server that was
// removed; but the kernel counts those of IPv4 only.
//
// What is left is to look at everything: the kernel has no cheaper way to tell how many members a set has than to walk them,
// or that a weight was changed than to list all virtual servers. That is done as often as a thousandth of a processor's time
// allows: with every look while there are some hundred Services, and after a minute or two where there are ten thousand;
// and with the look after one that saw damage, since whoever did that may have done more. How long persistence is does not
// show in the listing, nor does the mark of a member: who changes that alone is not seen until something else is. What
// looks wrong is invalidated, and so read whole with the sync that follows.
type lookout struct {
	counted bool      // there was a look
	others  int       // how many virtual servers were not of our making then
	due     time.Time // when everything is to be looked at
}

// share is how many times as long as it takes to look at everything is waited until that is done again.
const share = 1000

// A part is one thing to look at. An error is a difference, too.
type part struct {
	name   string
	differ func(context.Context) (bool, error)
}

// Verify implements loop.Dataplane: it reports whether anything looks wrong, or was not seen to stand yet.
func (d *Dataplane) Verify(ctx context.Context) bool {
	wrong := d.any(ctx, part{"settings", d.settingsDiffer}, part{"sets", d.samplesDiffer}, part{"servers", d.countDiffers})
	d.pollRules(ctx)
	if begin := time.Now(); !wrong && !begin.Before(d.lookout.due) {
		wrong = d.any(ctx, part{"sets", d.countsDiffer}, part{"servers", d.tableDiffers})
		d.lookout.due = begin.Add(share * time.Since(begin))
	}
	return wrong || slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return r.stale })
}

// drift notes that others changed a part. Whoever did that may have done more, so everything is looked at next.
func (d *Dataplane) drift(part string) {
	d.count.drift.WithLabelValues(part).Inc()
	d.lookout.due = time.Time{}
	d.drifted = append(d.drifted, part)
}

// tellDrift logs what others changed once it is repaired.
func (d *Dataplane) tellDrift(ctx context.Context) {
	if len(d.drifted) == 0 {
		return
	}
	slices.Sort(d.drifted)
	klog.FromContext(ctx).Info("Others changed objects of kube-ipvs; they are repaired", "parts", slices.Compact(d.drifted))
	d.drifted = nil
}

// any reports whether any of the parts differs.
func (d *Dataplane) any(ctx context.Context, parts ...part) bool {
	wrong := false
	for _, p := range parts {
		if differ, err := p.differ(ctx); differ || err != nil {
			d.drift(p.name)
			wrong = true
		}
	}
	return wrong
}
