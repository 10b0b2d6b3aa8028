package ipvsmode

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/plan"
)

// spare asks which of the settings that are to be made must be left as they are for now.
func (d *Dataplane) spare(ctx context.Context) {
	d.spared = nil
	for o := range d.settings.Missing() {
		if err := d.cfg.Spare(ctx, sysctl.Setting{Name: o.Key(), Value: o.Wanted()}); err != nil {
			if d.spared == nil {
				d.spared = map[string]error{}
			}
			d.spared[o.Key()] = err
		}
	}
}

// maySet reports whether a setting may be made: nothing speaks against it, and what it is of exists.
func (d *Dataplane) maySet(name string) bool {
	_, known := d.settings.Known(name)
	return d.spared[name] == nil && (known || name != linkIPv6)
}

// nodeProblems lists what about this node keeps Services from being served: settings that must be left as they are, and
// what others have in the way of our link, routes and rules.
func (d *Dataplane) nodeProblems() []plan.Problem {
	var out []plan.Problem
	node := "Node " + d.node.Name
	for _, name := range slices.Sorted(maps.Keys(d.spared)) {
		out = append(out, plan.Problem{Object: node, Field: strings.ReplaceAll(name, "/", "."), Reason: d.spared[name].Error(), Here: true})
	}
	for item, err := range d.routes.Failures() {
		if errors.Is(err, os.ErrExist) && !d.isGivenUp(item) {
			out = append(out, plan.Problem{Object: node, Field: "routes", Reason: err.Error(), Here: true})
		}
	}
	slices.SortFunc(out, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// tellNode tells what is the matter with the node, if that changed.
func (d *Dataplane) tellNode() {
	problems := d.nodeProblems()
	if slices.Equal(problems, d.unfit) {
		return
	}
	d.unfit = problems
	d.cfg.NodeProblems(problems)
}
