package loop

import (
	"cmp"
	"fmt"
	"slices"

	"kube-ipvs/sync/plan"
)

// Owners rank the Services that claim a frontend: the first owns it, and the next takes over when the first is gone.
type owners map[plan.Address][]claimed

type claimed struct {
	by *service
	fe *plan.Frontend
}

// ranks orders claims by the frontend's kind. Allocations of the API server precede addresses that users write: a
// Service that names another's cluster IP as its external IP must not get it, however old it is.
var ranks = [...]int{plan.ClusterIP: 0, plan.NodePort: 1, plan.LoadBalancerIP: 2, plan.ExternalIP: 3}

// before ranks claims: by kind, then the older Service first, then by name.
func (c claimed) before(o claimed) int {
	return cmp.Or(cmp.Compare(ranks[c.fe.Kind], ranks[o.fe.Kind]), c.by.created.Compare(o.by.created),
		c.by.desired.Service.Compare(o.by.desired.Service))
}

// winner returns the claim of the owner, if any.
func (c owners) winner(key plan.Address) (claimed, bool) {
	if all := c[key]; len(all) > 0 {
		return all[0], true
	}
	return claimed{}, false
}

// replace replaces a Service's claim. Either state may be nil.
func (c owners) replace(key plan.Address, old, now *service) {
	all, had := c[key], claimed{old, old.frontend(key)}
	has := claimed{now, now.frontend(key)}
	if had.fe != nil && has.fe != nil && had.before(has) == 0 {
		all[c.place(key, had)] = has
		return
	}
	if had.fe != nil {
		at := c.place(key, had)
		all = slices.Delete(all, at, at+1)
		c[key] = all
	}
	if has.fe != nil {
		c[key] = slices.Insert(all, c.place(key, has), has)
	} else if len(all) == 0 {
		delete(c, key)
	}
}

// place returns a claim's index, present or not.
func (c owners) place(key plan.Address, x claimed) int {
	at, _ := slices.BinarySearchFunc(c[key], x, claimed.before)
	return at
}

// keys lists the frontends of two states of a Service, each once.
func keys(old, now *service) []plan.Address {
	var out []plan.Address
	for _, s := range []*service{old, now} {
		if s != nil {
			for i := range s.desired.Frontends {
				out = append(out, s.desired.Frontends[i].Address)
			}
		}
	}
	slices.SortFunc(out, plan.Address.Compare)
	return slices.Compact(out)
}

// mostConflicts bounds the conflicts of a Service that are reported one by one. A Service may have any number of them.
const mostConflicts = 10

// conflicts returns problems for the frontends that a Service does not get, and the number of those frontends.
func (l *Loop) conflicts(s *service) (out []plan.Problem, n int) {
	here := true
	for i := range s.desired.Frontends {
		fe := &s.desired.Frontends[i]
		first := l.owners[fe.Address][0]
		var refused error
		if first.by == s {
			refused = l.dataplane.Status(fe.Address).Refused
		}
		if first.by == s && refused == nil {
			continue
		}
		n++
		switch {
		case n > mostConflicts:
			here = here && (first.by == s || isHere(fe, first))
		case first.by == s:
			out = append(out, refusedAt(s, fe, refused))
		default:
			out = append(out, conflict(s, fe, first))
		}
	}
	if n > mostConflicts {
		out = append(out, plan.Problem{
			Object: "Service " + s.desired.Service.String(), Field: "spec",
			Reason: fmt.Sprintf("%d more of its addresses and ports are served for others", n-mostConflicts), Here: here,
		})
	}
	return out, n
}

// conflict returns the problem of a frontend that another Service owns.
func conflict(s *service, fe *plan.Frontend, first claimed) plan.Problem {
	return plan.Problem{
		Object: "Service " + s.desired.Service.String(), Field: titleOf(fe), Reason: servedFor(first.by.desired.Service, first.fe.Kind, fe.Kind),
		Here: isHere(fe, first),
	}
}

// servedFor returns the reason why a frontend is not served for a Service that has it as kind, but for its owner.
func servedFor(owner plan.Name, owners, kind plan.Kind) string {
	if owners == kind {
		return fmt.Sprintf("is served for the older Service %v", owner)
	}
	return fmt.Sprintf("is served for Service %v, whose %v it is", owner, owners)
}

// titleOf returns a frontend's name for users.
func titleOf(fe *plan.Frontend) string {
	return fmt.Sprintf("%v %v (%v)", fe.Kind, fe.AddrPort(), fe.Protocol)
}

// isHere reports whether a conflict concerns this node only: a node port is at the addresses of one node.
func isHere(fe *plan.Frontend, first claimed) bool {
	return fe.Kind == plan.NodePort || first.fe.Kind == plan.NodePort
}

// sameTo reports whether two claims look the same to other claimants of the frontend.
func (c claimed) sameTo(o claimed) bool {
	return c.by.desired.Service == o.by.desired.Service && c.fe.Kind == o.fe.Kind
}

// refusedAt returns the problem of a frontend that is not served.
func refusedAt(s *service, fe *plan.Frontend, why error) plan.Problem {
	return plan.Problem{
		Object: "Service " + s.desired.Service.String(), Field: titleOf(fe), Reason: "is not served: " + why.Error(), Here: true,
	}
}
