package ipvsmode

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/sync/loop"
)

// A lookout checks, once in a while, for foreign changes without a notification from the kernel: of settings, sets, rules or
// virtual servers. It starts no process. Every check begins with a part of constant cost: the settings, one member of each set,
// the state of the rules, and the number of virtual servers. So it finds flushed and destroyed objects at once (no set is
// destroyed before the rules that refer to it), and one removed virtual server; but the kernel counts those of IPv4 only.
//
// The rest needs a full scan: the kernel has no cheaper way to count a set's members than to walk them, or to find a changed
// weight than to list all virtual servers. It may take a thousandth of a processor's time: it runs with every check at some
// hundred Services, every minute or two at ten thousand, and with the check after one that found a change, since there may
// be more. The duration of persistence is not in the listing, nor is a member's mark: a change of these alone is not seen
// until something else is. A layer that differs is invalidated, and so read whole with the next sync.
type lookout struct {
	counted bool          // there was a check
	others  int           // number of virtual servers not made here then
	due     time.Time     // of the next full scan
	took    time.Duration // the last one; 0: there was none
}

// share bounds the cost of full scans: after one that took d, the next starts no sooner than share × d later.
const share = 1000

// The parts, as metrics and the log have them.
const (
	settingsPart = "settings"
	setsPart     = "sets"
	serversPart  = "servers"
	rulesPart    = "rules"
)

// A part is one thing to check. An error is a difference, too.
type part struct {
	name   string
	differ func(context.Context) (bool, error)
}

// Verify implements loop.Dataplane: it reports whether anything differs, or was not seen in sync yet.
func (d *Dataplane) Verify(ctx context.Context) bool {
	wrong := d.any(ctx, part{settingsPart, d.settingsDiffer}, part{setsPart, d.samplesDiffer}, part{serversPart, d.countDiffers})
	d.pollRules(ctx)
	if begin := time.Now(); !wrong && !begin.Before(d.lookout.due) {
		wrong = d.any(ctx, part{setsPart, d.countsDiffer}, part{serversPart, d.tableDiffers})
		d.lookout.scanned(begin, time.Since(begin))
	}
	return wrong || slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return r.stale })
}

// scanned notes a full scan. On a busy node one may wait long for a processor, which it does not use meanwhile: the shorter of the last
// two decides, or one such wait would put off the next scan by minutes.
func (l *lookout) scanned(begin time.Time, took time.Duration) {
	cost := took
	if l.took > 0 {
		cost = min(took, l.took)
	}
	l.due, l.took = begin.Add(share*cost), took
}

// drift notes a foreign change of a part. There may be more, so a full scan is next.
func (d *Dataplane) drift(part string) {
	d.count.external.WithLabelValues(part).Inc()
	d.lookout.due = time.Time{}
	c := d.changes[part]
	if c == nil {
		c = &loop.ExternalChange{Component: part}
		d.changes[part] = c
	}
	c.Found, c.Last = c.Found+1, time.Now()
}

// tellDrift logs foreign changes once they are repaired, and returns their parts.
func (d *Dataplane) tellDrift(ctx context.Context) (parts []string) {
	for _, part := range slices.Sorted(maps.Keys(d.changes)) {
		c := d.changes[part]
		if c.Repaired == c.Found || d.lacks(part) {
			continue
		}
		d.count.repaired.WithLabelValues(part).Add(float64(c.Found - c.Repaired))
		c.Repaired = c.Found
		parts = append(parts, part)
	}
	if parts != nil {
		klog.FromContext(ctx).Info("Others changed objects of kube-ipvs; they are repaired", "parts", parts)
	}
	return parts
}

// lacks reports whether something that others changed in a part could not be repaired.
func (d *Dataplane) lacks(part string) bool {
	switch part {
	case settingsPart:
		return d.settings.Lost() > 0
	case setsPart:
		for _, l := range d.members {
			if l.Table.Lost() > 0 {
				return true
			}
		}
		return d.setLayer.Table.Lost() > 0
	case serversPart:
		return d.tables.servers.Lost()+d.tables.reals.Lost() > 0
	}
	return slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return r.Failing() > 0 })
}

// Report implements loop.Reporter.
func (d *Dataplane) Report() loop.Report {
	var r loop.Report
	for _, l := range d.layers {
		r.Layers = append(r.Layers, loop.LayerState{Name: l.Name(), Known: l.Known(), Pending: l.Pending(), Failing: l.Failing(), Err: l.Err()})
	}
	for _, part := range slices.Sorted(maps.Keys(d.changes)) {
		r.Changes = append(r.Changes, *d.changes[part])
	}
	return r
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
