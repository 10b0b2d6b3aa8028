package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// explain returns the ways of packets to one address, or to each frontend of a Service.
func (s *Server) explain(ctx context.Context, q Query) (out List[Explanation], err error) {
	name, single := q.name()
	switch {
	case single == (q.To != ""):
		return out, badRequest{errors.New("explain: give a Service, or an address and port")}
	case single:
		v, err := s.view(ctx, name, true)
		if err != nil {
			return out, err
		}
		out.Total = len(v.Frontends)
		v.Frontends, out.Continue = cut(v.Frontends, q)
		g := v.guide()
		for i := range v.Frontends {
			x, err := s.explainFrontend(ctx, g, &v.Frontends[i], q.From)
			if err != nil {
				return out, err
			}
			out.Items = append(out.Items, x)
		}
		return out, nil
	}
	to, err := ParseAddress(q.To)
	if err != nil {
		return out, badRequest{err}
	}
	if q.From.IsValid() && q.From.Is4() != to.Addr.Is4() {
		return out, badRequest{fmt.Errorf("from: %v and %v are of different families", q.From, to.Addr)}
	}
	x, err := s.explainAddress(ctx, to, q.From)
	out.Items = []Explanation{x}
	return out, err
}

// explainAddress explains an address, whether it is a frontend or not.
func (s *Server) explainAddress(ctx context.Context, to plan.Address, from netip.Addr) (Explanation, error) {
	owner, isOwned, err := s.Loop.Owner(ctx, to)
	if err != nil {
		return Explanation{}, err
	}
	if isOwned {
		v, err := s.view(ctx, owner, true)
		if err != nil {
			return Explanation{}, err
		}
		for i := range v.Frontends {
			if fe := &v.Frontends[i]; fe.Address == to {
				return s.explainFrontend(ctx, v.guide(), fe, from)
			}
		}
	}
	x := Explanation{Address: to.String()}
	verdicts, err := s.Loop.Explain(ctx, to, from)
	for _, verdict := range verdicts {
		x.Ways = append(x.Ways, wayOf(verdict, from, guide{}))
	}
	return x, err
}

func (s *Server) explainFrontend(ctx context.Context, g guide, fe *loop.InspectedFrontend, from netip.Addr) (Explanation, error) {
	x := Explanation{Address: fe.Address.String(), Service: g.name.String(), Kind: fe.Kind.String(), Problems: g.problems()}
	x.State, x.Reason = g.state(fe)
	if from.IsValid() && from.Is4() != fe.Addr.Is4() {
		from = netip.Addr{}
	}
	verdicts, err := s.Loop.Explain(ctx, fe.Address, from)
	if err != nil {
		return Explanation{}, err
	}
	for _, verdict := range verdicts {
		x.Ways = append(x.Ways, wayOf(verdict, from, g))
	}
	for _, e := range g.endpoints[keyOfFrontend(fe)] {
		if reason := g.Explanation.Reason(*e, fe.Kind); !reason.IsServing() {
			x.Others = append(x.Others, Idle{Address: e.At.String(), Pod: g.pods[e.At.Addr()], Node: e.Node, Reason: idleBecause(reason, e, fe.Kind)})
		}
	}
	return x, nil
}

// idleBecause returns the reason why an endpoint gets no new connections. An external Local policy concerns sources outside only.
func idleBecause(reason plan.Reason, e *plan.ExplainedEndpoint, k plan.Kind) string {
	if k != plan.ClusterIP && e.Cluster.IsServing() {
		return reason.String() + ", from outside"
	}
	return reason.String()
}

// wayOf returns a verdict as an item, with the pods and nodes of a Service's endpoints.
func wayOf(verdict loop.Verdict, from netip.Addr, g guide) Way {
	out := Way{Origin: verdict.Origin.String(), Outcome: verdict.Outcome.String()}
	if from.IsValid() {
		out.From = from.String()
	}
	for _, at := range verdict.Endpoints {
		stop := Stop{Address: at.String(), Pod: g.pods[at.Addr()], Node: g.nodes[at], Chance: verdict.Share, Source: "kept"}
		if verdict.Masqueraded || verdict.Hairpin && at.Addr() == from {
			stop.Source = "masqueraded"
		}
		out.Endpoints = append(out.Endpoints, stop)
	}
	for _, step := range verdict.Steps {
		out.Steps = append(out.Steps, Step(step))
	}
	return out
}

// traffic returns the counters of each frontend that has any, or of the endpoints of one Service.
func (s *Server) traffic(ctx context.Context, q Query) (out List[Traffic], err error) {
	out.Uncounted = s.Meter.Uncounted(ctx)
	if name, single := q.name(); single {
		out.Items, err = s.trafficOf(ctx, name)
		return out, err
	}
	out.Items, err = s.totals(ctx)
	out.Items = slices.DeleteFunc(out.Items, func(t Traffic) bool { return q.Namespace != "" && t.Namespace != q.Namespace })
	return out, err
}

// totals returns the counters of each frontend that has any.
func (s *Server) totals(ctx context.Context) ([]Traffic, error) {
	totals, err := s.Meter.Totals(ctx)
	if err != nil {
		return nil, err
	}
	counted := &loads{counted: true}
	var out []Traffic
	for a, total := range totals {
		owner, isOwned, err := s.Loop.Owner(ctx, a)
		if err != nil {
			return nil, err
		}
		if isOwned {
			out = append(out, Traffic{Name: titleOf(owner), Frontend: a.String(), Load: *counted.sum(total)})
		}
	}
	slices.SortFunc(out, func(a, b Traffic) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Frontend, b.Frontend))
	})
	return out, nil
}

func (s *Server) trafficOf(ctx context.Context, name plan.Name) ([]Traffic, error) {
	v, err := s.view(ctx, name, true)
	if err != nil {
		return nil, err
	}
	if err := v.readLoads(true, s.loadsOf(ctx)); err != nil {
		return nil, err
	}
	var out []Traffic
	for frontend, endpoints := range v.loads.of {
		for at, l := range endpoints {
			out = append(out, Traffic{
				Name: v.title(), Frontend: frontend.String(), Endpoint: at.String(), Pod: v.pods[at.Addr()], Load: *v.loads.one(l, true),
			})
		}
	}
	slices.SortFunc(out, func(a, b Traffic) int {
		return cmp.Or(cmp.Compare(a.Frontend, b.Frontend), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return out, nil
}
