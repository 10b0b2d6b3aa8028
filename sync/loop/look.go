package loop

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"kube-ipvs/ipvs"
)

// A lookout looks, once in a while, at what the kernel tells nobody about: whether somebody else changed settings, sets,
// rules or virtual servers. It starts no process, and costs the same however much there is, but for the virtual servers:
// the kernel has no cheaper way to tell that a weight was changed than to list them all. That is done as often as a
// thousandth of a processor's time allows: with every look while there are some hundred, and after a minute or two where
// there are ten thousand. Their number is looked at with every look, so that one that was removed, or a flush, is seen at once; but the
// kernel counts those of IPv4 only. How long persistence is does not show in the listing: who changes that alone is not seen
// until something else is. What looks wrong is doubted, and so read whole with the turn that follows.
type lookout struct {
	*Loop
	counted bool      // there was a look
	others  int       // how many virtual servers were not of our making then
	due     time.Time // when all of them are to be looked at
}

// walkShare is how many times as long as it takes to look at all virtual servers is waited until it is done again.
const walkShare = 1000

// look says whether anything looks wrong, or was not seen to stand yet.
func (o *lookout) look(ctx context.Context) bool {
	wrong := false
	for _, part := range []struct {
		name   string
		differ func(context.Context) (bool, error)
	}{
		{"settings", o.settingsDiffer}, {"sets", o.setsDiffer}, {"rules", o.rulesDiffer}, {"servers", o.serversDiffer},
	} {
		differ, err := part.differ(ctx)
		if differ || err != nil {
			o.count.drift.WithLabelValues(part.name).Inc()
			wrong = true
		}
	}
	return wrong || slices.ContainsFunc(o.rules, func(r *rulesLayer) bool { return r.doubted })
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

// setsDiffer compares how many members each set has with how many it is known to have.
func (o *lookout) setsDiffer(ctx context.Context) (bool, error) {
	counts, err := o.cfg.Sets.Counts(ctx)
	if err != nil {
		o.setLayer.doubt()
		return true, err
	}
	differ := false
	for name, members := range o.members {
		count, there := counts[name]
		if !there {
			o.setLayer.doubt()
		}
		if !there || int(count.Members) != members.table.KnownLen() {
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

// serversDiffer compares how many virtual servers there are with each look, and all of them whenever that is due.
func (o *lookout) serversDiffer(ctx context.Context) (bool, error) {
	differ, err := o.countDiffers(ctx)
	if begin := time.Now(); !differ && err == nil && !begin.Before(o.due) {
		differ, err = o.tableDiffers(ctx)
		o.due = begin.Add(walkShare * time.Since(begin))
	}
	if differ || err != nil {
		o.serverLayer.doubt()
		o.realLayer.doubt()
	}
	return differ, err
}

// countDiffers says whether others made or removed an IPv4 virtual server since the last look: the number of those that
// are not of our making is another one.
func (o *lookout) countDiffers(ctx context.Context) (bool, error) {
	all, err := o.cfg.IPVS.Count(ctx)
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return false, nil
		}
		return true, err
	}
	others := all - o.made
	differ := o.counted && others != o.others
	o.others, o.counted = others, true
	return differ, nil
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
		if key.Mark == 0 { // one of a mark is seen by its real servers only
			servers++
		}
		differ = differ || known.Scheduler != e.Server.Scheduler || (known.Timeout == 0) != (e.Server.Timeout == 0)
		for at, state := range e.Reals {
			reals++
			real, ok := o.tables.reals.Known(ipvs.RealKeyOf(key, at))
			differ = differ || !ok || real != state.Real
		}
	})
	for key := range o.tables.servers.All() {
		if key.Mark == 0 {
			servers--
		}
	}
	return differ || servers != 0 || reals != o.tables.reals.KnownLen(), err
}
