package loop

import (
	"fmt"
	"slices"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// A service is what the loop remembers of a Service: its fragment, as it is in the tables. The methods may be called on
// nil, a Service that is not there.
type service struct {
	fragment  plan.Fragment // its frontends are ordered by key
	uid       string
	created   time.Time
	problems  []plan.Problem // as they were told
	notServed int            // how much of it is not served, told or not
	triggered seen           // the changes that led here
}

func (s *service) health() *plan.Health {
	if s == nil {
		return nil
	}
	return s.fragment.Health
}

func (s *service) frontend(key ipvs.Key) *plan.Frontend {
	if s == nil {
		return nil
	}
	fes := s.fragment.Frontends
	i, found := slices.BinarySearchFunc(fes, key, func(fe plan.Frontend, key ipvs.Key) int { return fe.Key.Compare(key) })
	if !found {
		return nil
	}
	return &fes[i]
}

// aliasTaken lists the frontends of a Service that have no alias, since another address has the same.
func (l *Loop) aliasTaken(s *service) []plan.Problem {
	var out []plan.Problem
	for i := range s.fragment.Frontends {
		fe := &s.fragment.Frontends[i]
		if first, _ := l.claims.winner(fe.Key); first.by != s || fe.Internal == nil || l.tables.hasAlias(fe) || !l.tables.has(fe.Key.Addr) {
			continue
		}
		out = append(out, plan.Problem{
			Object: "Service " + s.fragment.Service.String(),
			Field:  fmt.Sprintf("%v %v (%v)", fe.Kind, fe.Key.AddrPort(), fe.Key.Proto),
			Reason: fmt.Sprintf("pods and nodes get the endpoints on this node only: %v, another address with a Local policy, ends with the same bytes", l.tables.aliasTakenBy(fe).AddrPort()),
		})
	}
	return out
}
