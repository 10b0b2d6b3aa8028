package loop

import (
	"slices"
	"strings"
	"time"

	"kube-ipvs/sync/plan"
)

// A service is the loop's state of a Service, as given to the data plane. The methods may be called on nil, a Service that
// does not exist.
type service struct {
	desired   plan.Desired // its frontends are ordered by key
	uid       string
	created   time.Time
	digest    uint64         // of the input
	problems  []plan.Problem // as reported
	notServed int            // number of unserved parts, reported or not
	conflicts int            // number of frontends that others have
	triggered triggers       // the changes behind this state
}

func (s *service) health() *plan.Health {
	if s == nil {
		return nil
	}
	return s.desired.Health
}

// needs returns the Service's desired state, or nil.
func (s *service) needs() *plan.Desired {
	if s == nil {
		return nil
	}
	return &s.desired
}

// summand returns the Service's part of its group's sum.
func (s *service) summand() uint64 {
	if s == nil {
		return 0
	}
	return s.digest
}

func (s *service) frontend(key plan.Address) *plan.Frontend {
	if s == nil {
		return nil
	}
	fes := s.desired.Frontends
	i, found := slices.BinarySearchFunc(fes, key, func(fe plan.Frontend, key plan.Address) int { return fe.Address.Compare(key) })
	if !found {
		return nil
	}
	return &fes[i]
}

// limited returns problems for the frontends of a Service that are served in part, and for families that do not work here.
func (l *Loop) limited(s *service) []plan.Problem {
	var limits, down []plan.Problem
	object := "Service " + s.desired.Service.String()
	for i := range s.desired.Frontends {
		fe := &s.desired.Frontends[i]
		status := l.dataplane.Status(fe.Address)
		if first, _ := l.owners.winner(fe.Address); first.by == s && status.Limited != "" {
			limits = append(limits, plan.Problem{Object: object, Field: titleOf(fe), Reason: status.Limited})
		}
		if p := (plan.Problem{Object: object, Field: "spec.ipFamilies", Reason: status.Family, Here: true}); status.Family != "" && !slices.Contains(down, p) {
			down = append(down, p)
		}
	}
	slices.SortFunc(down, func(a, b plan.Problem) int { return strings.Compare(a.Reason, b.Reason) }) // IPv4 first
	return append(limits, down...)
}
