package loop

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
	*Loop
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

// look says whether anything looks wrong, or was not seen to stand yet.
func (o *lookout) look(ctx context.Context) bool {
	wrong := o.any(ctx, part{"settings", o.settingsDiffer}, part{"sets", o.samplesDiffer}, part{"rules", o.rulesDiffer},
		part{"servers", o.countDiffers})
	if begin := time.Now(); !wrong && !begin.Before(o.due) {
		wrong = o.any(ctx, part{"sets", o.countsDiffer}, part{"servers", o.tableDiffers})
		o.due = begin.Add(share * time.Since(begin))
	}
	if wrong {
		o.due = time.Time{}
	}
	return wrong || slices.ContainsFunc(o.rules, func(r *rulesLayer) bool { return r.doubted })
}

// any says whether any of the parts differs.
func (o *lookout) any(ctx context.Context, parts ...part) bool {
	wrong := false
	for _, p := range parts {
		if differ, err := p.differ(ctx); differ || err != nil {
			o.count.drift.WithLabelValues(p.name).Inc()
			wrong = true
		}
	}
	return wrong
}

func (o *lookout) settingsDiffer(ctx context.Context) (bool, error) {
	var names []string
	for name := range o.settings.Wants() {
		names = append(names, name)
	}
	values, err := o.cfg.Sysctl.Read(ctx, names)
	differ := err != nil && !errors.Is(err, os.ErrNotExist)
	for name, value := range values {
		known, ok := o.settings.Known(name)
		differ = differ || !ok || known != value
	}
	if differ {
		o.settingLayer.doubt()
	}
	return differ, nil
}

// samplesDiffer looks for one member of each set that is known to have any.
func (o *lookout) samplesDiffer(ctx context.Context) (bool, error) {
	var ops []ipset.Op
	for _, sets := range o.tables.families {
		for _, set := range sets.All() {
			for m := range o.members[set.Name].table.All() {
				ops = append(ops, ipset.Op{Verb: ipset.Test, Set: set, Member: m})
				break
			}
		}
	}
	errs := o.cfg.Sets.Do(ctx, ops)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if !errors.Is(err, ipset.ErrNoMember) {
			o.setLayer.doubt()
		}
		o.members[ops[i].Set.Name].doubt()
	}
	return errs != nil, nil
}

// countsDiffer compares how many members each set has with how many it is known to have.
func (o *lookout) countsDiffer(ctx context.Context) (bool, error) {
	counts, err := o.cfg.Sets.Counts(ctx)
	if err != nil {
		return true, err
	}
	differ := false
	for name, members := range o.members {
		count, there := counts[name]
		if !there {
			o.setLayer.doubt()
		}
		if !there || count != members.table.KnownLen() {
			members.doubt()
			differ = true
		}
	}
	return differ, nil
}

// rulesDiffer says whether rules were found changed since the last look, and doubts those whose trace is another one.
func (o *lookout) rulesDiffer(ctx context.Context) (bool, error) {
	differ := false
	for _, r := range o.rules {
		differ = differ || r.differed
		r.differed = false
		r.suspect(ctx)
	}
	return differ, nil
}

// countDiffers says whether others made or removed an IPv4 virtual server since the last look: the number of those that
// are not of our making is another one.
func (o *lookout) countDiffers(ctx context.Context) (bool, error) {
	all, err := o.cfg.IPVS.Count(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	others := all - o.made
	differ := err != nil || o.counted && others != o.others
	o.others, o.counted = others, err == nil
	if differ {
		o.doubtServers()
	}
	return differ, err
}

func (o *lookout) doubtServers() {
	o.serverLayer.doubt()
	o.realLayer.doubt()
}

// tableDiffers compares all virtual servers with what is known of them.
func (o *lookout) tableDiffers(ctx context.Context) (bool, error) {
	differ, servers, reals := false, 0, 0
	err := o.cfg.IPVS.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		known, ok := o.tables.servers.Known(key)
		if !ok {
			differ = differ || o.isOurs(key)
			return
		}
		servers++
		differ = differ || known.Scheduler != e.Server.Scheduler || (known.Timeout == 0) != (e.Server.Timeout == 0)
		for at, state := range e.Reals {
			reals++
			real, ok := o.tables.reals.Known(ipvs.RealKeyOf(key, at))
			differ = differ || !ok || real != state.Real
		}
	})
	differ = differ || servers != o.tables.servers.KnownLen() || reals != o.tables.reals.KnownLen() || err != nil
	if differ {
		o.doubtServers()
	}
	return differ, err
}
