package ipvsmode

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"kube-ipvs/sync/plan"
)

// nodeProblems lists the reasons of this node not to serve Services: settings that must be left as they are, and foreign
// objects in the way of the link, routes and rules.
func (d *Dataplane) nodeProblems() []plan.Problem {
	var out []plan.Problem
	node := "Node " + d.node.Name
	for _, name := range slices.Sorted(maps.Keys(d.withheld)) {
		out = append(out, plan.Problem{Object: node, Field: strings.ReplaceAll(name, "/", "."), Reason: d.withheld[name].Error(), Here: true})
	}
	for item, err := range d.routes.Failures() {
		if errors.Is(err, os.ErrExist) && !d.isGivenUp(item) {
			out = append(out, plan.Problem{Object: node, Field: "routes", Reason: err.Error(), Here: true})
		}
	}
	if d.takeover.state == cameBack {
		out = append(out, plan.Problem{Object: node, Field: KubeProxy, Reason: errCameBack.Error(), Here: true})
	}
	slices.SortFunc(out, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// tellNode reports the node's problems, if they changed.
func (d *Dataplane) tellNode() {
	problems := d.nodeProblems()
	if slices.Equal(problems, d.unfit) {
		return
	}
	d.unfit = problems
	d.cfg.NodeProblems(problems)
}
