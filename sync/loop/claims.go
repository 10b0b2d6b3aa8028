package loop

import (
	"cmp"
	"fmt"
	"slices"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// Claims says which Service has which frontend. Two that claim one are ranked: the older has it, and the other takes
// over when the first goes.
type claims map[ipvs.Key][]claimed

type claimed struct {
	by *service
	fe *plan.Frontend
}

// before ranks claims: the older Service first; among twins the one whose name comes first.
func (c claimed) before(o claimed) int {
	return cmp.Or(c.by.created.Compare(o.by.created), c.by.fragment.Service.Compare(o.by.fragment.Service))
}

// winner returns the claim that is served, if there is one.
func (c claims) winner(key ipvs.Key) (claimed, bool) {
	if all := c[key]; len(all) > 0 {
		return all[0], true
	}
	return claimed{}, false
}

// replace puts a Service's claims in the place of those it had. Either may be nil.
func (c claims) replace(key ipvs.Key, old, now *service) {
	all := slices.DeleteFunc(c[key], func(x claimed) bool { return x.by == old })
	if fe := now.frontend(key); fe != nil {
		all = append(all, claimed{now, fe})
		slices.SortFunc(all, claimed.before)
	}
	if len(all) == 0 {
		delete(c, key)
		return
	}
	c[key] = slices.Clip(all)
}

// keys lists the frontends of two states of a Service, each once.
func keys(old, now *service) []ipvs.Key {
	var out []ipvs.Key
	for _, s := range []*service{old, now} {
		if s != nil {
			for i := range s.fragment.Frontends {
				out = append(out, s.fragment.Frontends[i].Key)
			}
		}
	}
	slices.SortFunc(out, ipvs.Key.Compare)
	return slices.Compact(out)
}

// conflicts lists the frontends of a Service that another one has.
func (c claims) conflicts(s *service) []plan.Problem {
	var out []plan.Problem
	for i := range s.fragment.Frontends {
		fe := &s.fragment.Frontends[i]
		if first := c[fe.Key][0]; first.by != s {
			out = append(out, plan.Problem{
				Object: "Service " + s.fragment.Service.String(),
				Field:  fmt.Sprintf("%v %v (%v)", fe.Kind, fe.Key.AddrPort(), fe.Key.Proto),
				Reason: fmt.Sprintf("is served for the older Service %v", first.by.fragment.Service),
				// A node port is at the addresses of one node.
				Here: fe.Kind == plan.NodePort || first.fe.Kind == plan.NodePort,
			})
		}
	}
	return out
}

// rivals returns the other Services that claim one of these frontends, each once, in order.
func (c claims) rivals(keys []ipvs.Key, than *service) []*service {
	var out []*service
	for _, key := range keys {
		for _, x := range c[key] {
			if x.by != than {
				out = append(out, x.by)
			}
		}
	}
	slices.SortFunc(out, func(a, b *service) int { return a.fragment.Service.Compare(b.fragment.Service) })
	return slices.Compact(out)
}
