package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"kube-ipvs/ipvs"
)

// A lookout looks, once in a while, at what the kernel tells nobody about: whether somebody else changed settings, sets,
// rules or virtual servers. A look costs the same however much there is, starts no process and dumps nothing that grows
// with the number of Services. What looks wrong is doubted, and so read whole with the turn that follows.
type lookout struct {
	*Loop
	round []ipvs.Key // virtual servers that were not looked at yet in this round
}

// How many virtual servers a look takes: enough to be through with all of them in about five minutes, within limits. A
// flush of the whole table shows with the first.
const (
	roundLooks    = 300
	fewestServers = 4
	mostServers   = 32
)

// look says whether anything looks wrong.
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

func (o *lookout) rulesDiffer(ctx context.Context) (bool, error) {
	differ := false
	var errs []error
	for _, r := range o.rules {
		d, err := r.traceDiffers(ctx)
		differ = differ || d
		errs = append(errs, err)
	}
	return differ, errors.Join(errs...)
}

// traceDiffers says whether rules of the family may have changed since they were last seen to stand.
func (r *rulesLayer) traceDiffers(ctx context.Context) (bool, error) {
	if !r.stands {
		return false, nil
	}
	trace, err := r.kernel.Trace(ctx, r.rules.Family)
	if err != nil {
		return false, fmt.Errorf("%s: %w", r.name(), err)
	}
	differ := trace != r.trace
	r.doubted = r.doubted || differ
	return differ, nil
}

// serversDiffer looks at the next few virtual servers of the round.
func (o *lookout) serversDiffer(ctx context.Context) (bool, error) {
	if len(o.round) == 0 {
		for key := range o.tables.servers.All() {
			o.round = append(o.round, key)
		}
		slices.SortFunc(o.round, ipvs.Key.Compare)
	}
	n := min(max(o.tables.servers.KnownLen()/roundLooks, fewestServers), mostServers, len(o.round))
	for _, key := range o.round[:n] {
		if differ, err := o.serverDiffers(ctx, key); differ || err != nil {
			o.round = nil
			o.serverLayer.doubt()
			o.realLayer.doubt()
			return true, err
		}
	}
	o.round = o.round[n:]
	return false, nil
}

// serverDiffers compares a virtual server with what is known of it.
func (o *lookout) serverDiffers(ctx context.Context, key ipvs.Key) (bool, error) {
	known, ok := o.tables.servers.Known(key)
	if !ok {
		return false, nil // it went since the round began
	}
	entry, err := o.cfg.IPVS.ReadServer(ctx, key)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil || entry.Server != known {
		return true, err
	}
	for at, state := range entry.Reals {
		if real, ok := o.tables.reals.Known(ipvs.RealKeyOf(key, at)); !ok || real != state.Real {
			return true, nil
		}
	}
	for at := range o.serving(key) {
		_, known := o.tables.reals.Known(ipvs.RealKeyOf(key, at))
		if _, there := entry.Reals[at]; known && !there {
			return true, nil
		}
	}
	return false, nil
}
