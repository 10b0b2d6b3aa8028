package ipvsmode

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
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
// looks wrong is doubted, and so read whole with the turn that follows.
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
	wrong := d.any(ctx, part{"settings", d.settingsDiffer}, part{"sets", d.samplesDiffer}, part{"rules", d.rulesDiffer},
		part{"servers", d.countDiffers})
	if begin := time.Now(); !wrong && !begin.Before(d.lookout.due) {
		wrong = d.any(ctx, part{"sets", d.countsDiffer}, part{"servers", d.tableDiffers})
		d.lookout.due = begin.Add(share * time.Since(begin))
	}
	if wrong {
		d.lookout.due = time.Time{}
	}
	return wrong || slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return r.stale })
}

// any says whether any of the parts differs.
func (d *Dataplane) any(ctx context.Context, parts ...part) bool {
	wrong := false
	for _, p := range parts {
		if differ, err := p.differ(ctx); differ || err != nil {
			d.count.drift.WithLabelValues(p.name).Inc()
			wrong = true
		}
	}
	return wrong
}

func (d *Dataplane) settingsDiffer(ctx context.Context) (bool, error) {
	var names []string
	for name := range d.settings.Wants() {
		names = append(names, name)
	}
	values, err := d.cfg.Sysctl.Read(ctx, names)
	differ := err != nil && !errors.Is(err, os.ErrNotExist)
	for name, value := range values {
		known, ok := d.settings.Known(name)
		differ = differ || !ok || known != value
	}
	if differ {
		d.settingLayer.Invalidate()
	}
	return differ, nil
}

// samplesDiffer looks for one member of each set that is known to have any.
func (d *Dataplane) samplesDiffer(ctx context.Context) (bool, error) {
	var ops []ipset.Op
	for _, sets := range d.tables.families {
		for _, set := range sets.All() {
			for m := range d.members[set.Name].Table.All() {
				ops = append(ops, ipset.Op{Verb: ipset.Test, Set: set, Member: m})
				break
			}
		}
	}
	errs := d.cfg.Sets.Do(ctx, ops)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if !errors.Is(err, ipset.ErrNoMember) {
			d.setLayer.Invalidate()
		}
		d.members[ops[i].Set.Name].Invalidate()
	}
	return errs != nil, nil
}

// countsDiffer compares how many members each set has with how many it is known to have.
func (d *Dataplane) countsDiffer(ctx context.Context) (bool, error) {
	counts, err := d.cfg.Sets.Counts(ctx)
	if err != nil {
		return true, err
	}
	differ := false
	for name, members := range d.members {
		count, there := counts[name]
		if !there {
			d.setLayer.Invalidate()
		}
		if !there || count != members.Table.KnownLen() {
			members.Invalidate()
			differ = true
		}
	}
	return differ, nil
}

// rulesDiffer says whether rules were found changed since the last look, and doubts those whose trace is another one.
func (d *Dataplane) rulesDiffer(ctx context.Context) (bool, error) {
	differ := false
	for _, r := range d.rules {
		differ = differ || r.differed
		r.differed = false
		r.poll(ctx)
	}
	return differ, nil
}

// countDiffers says whether others made or removed an IPv4 virtual server since the last look: the number of those that
// are not of our making is another one.
func (d *Dataplane) countDiffers(ctx context.Context) (bool, error) {
	all, err := d.cfg.IPVS.Count(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	others := all - d.made
	differ := err != nil || d.lookout.counted && others != d.lookout.others
	d.lookout.others, d.lookout.counted = others, err == nil
	if differ {
		d.doubtServers()
	}
	return differ, err
}

func (d *Dataplane) doubtServers() {
	d.serverLayer.Invalidate()
	d.realLayer.Invalidate()
}

// tableDiffers compares all virtual servers with what is known of them.
func (d *Dataplane) tableDiffers(ctx context.Context) (bool, error) {
	differ, servers, reals := false, 0, 0
	err := d.cfg.IPVS.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		known, ok := d.tables.servers.Known(key)
		if !ok {
			differ = differ || d.isOurs(key)
			return
		}
		servers++
		differ = differ || known.Scheduler != e.Server.Scheduler || (known.Timeout == 0) != (e.Server.Timeout == 0)
		for at, state := range e.Reals {
			reals++
			real, ok := d.tables.reals.Known(ipvs.RealKeyOf(key, at))
			differ = differ || !ok || real != state.Real
		}
	})
	differ = differ || servers != d.tables.servers.KnownLen() || reals != d.tables.reals.KnownLen() || err != nil
	if differ {
		d.doubtServers()
	}
	return differ, err
}
