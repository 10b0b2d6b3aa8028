package loop

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
func (l *Loop) spare(ctx context.Context) {
	l.spared = nil
	for o := range l.settings.Missing() {
		if err := l.cfg.Spare(ctx, sysctl.Setting{Name: o.Key(), Value: o.Wanted()}); err != nil {
			if l.spared == nil {
				l.spared = map[string]error{}
			}
			l.spared[o.Key()] = err
		}
	}
}

// maySet reports whether a setting may be made: nothing speaks against it, and what it is of exists.
func (l *Loop) maySet(name string) bool {
	_, known := l.settings.Known(name)
	return l.spared[name] == nil && (known || name != linkIPv6)
}

// nodeProblems lists what about this node keeps Services from being served: settings that must be left as they are, and
// what others have in the way of our link, routes and rules.
func (l *Loop) nodeProblems() []plan.Problem {
	var out []plan.Problem
	node := "Node " + l.node.Name
	for _, name := range slices.Sorted(maps.Keys(l.spared)) {
		out = append(out, plan.Problem{Object: node, Field: strings.ReplaceAll(name, "/", "."), Reason: l.spared[name].Error(), Here: true})
	}
	for item, f := range l.routes.failed {
		if errors.Is(f.error, os.ErrExist) && !l.isGivenUp(item) {
			out = append(out, plan.Problem{Object: node, Field: "routes", Reason: f.Error(), Here: true})
		}
	}
	slices.SortFunc(out, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// tellNode tells what is the matter with the node, if that changed.
func (l *Loop) tellNode() {
	problems := l.nodeProblems()
	if slices.Equal(problems, l.unfit) {
		return
	}
	l.unfit = problems
	l.cfg.NodeProblems(problems)
}
