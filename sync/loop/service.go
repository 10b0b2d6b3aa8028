package loop

import (
	"fmt"
	"maps"
	"net/netip"
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
	numbers   map[plan.InsideKey]uint32 // of its second lists; 0: none was left
	problems  []plan.Problem            // as they were told
	notServed int                       // how much of it is not served, told or not
	triggered seen                      // the changes that led here
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

// lists says that an endpoint of the Service is listed at this address and port of its own, whatever its state.
func (s *service) lists(proto ipvs.Protocol, at netip.AddrPort) bool {
	if s == nil {
		return false
	}
	return slices.ContainsFunc(s.fragment.Frontends, func(fe plan.Frontend) bool {
		return fe.Key.Proto == proto && (slices.Contains(fe.Reals, at) || slices.Contains(fe.Draining, at))
	})
}

// unnumbered lists the second lists for which no number was left.
func (s *service) unnumbered() []plan.Problem {
	if len(s.numbers) == 0 {
		return nil
	}
	var out []plan.Problem
	for _, key := range slices.SortedFunc(maps.Keys(s.numbers), plan.InsideKey.Compare) {
		if s.numbers[key] == 0 {
			out = append(out, plan.Problem{
				Object: "Service " + key.Service.String(), Field: "spec.externalTrafficPolicy",
				Reason: fmt.Sprintf("port %d (%v, IPv%d): %d other ports have a Local policy with endpoints both here and elsewhere;"+
					" pods and this node get the endpoints on this node only until one of them goes",
					key.Port, key.Proto, map[bool]int{true: 4, false: 6}[key.Family.Is4()], plan.Capacity),
				Here: true,
			})
		}
	}
	return out
}
