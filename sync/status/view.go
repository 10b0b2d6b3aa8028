package status

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A view is one Service as the loop has it, from which items are made.
type view struct {
	name plan.Name
	loop.Inspection
	limit   time.Duration // of drains
	pods    map[netip.Addr]string
	loads   map[plan.Address]map[netip.AddrPort]loop.Load // nil: not asked for
	counted bool                                          // they have counters
}

// view returns a Service. Pods are named if it is the only one asked about.
func (s *Server) view(ctx context.Context, name plan.Name, single bool) (view, error) {
	in, err := s.Loop.Inspect(ctx, name)
	v := view{name: name, Inspection: in, limit: s.DrainLimit}
	if err == nil && single && s.Pods != nil {
		v.pods = s.Pods(ctx, name)
	}
	return v, err
}

// readLoads reads the loads of the Service's frontends, if they are asked for.
func (v *view) readLoads(asked bool, read func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error)) (map[plan.Address]map[netip.AddrPort]loop.Load, error) {
	if !asked {
		return nil, nil
	}
	out := map[plan.Address]map[netip.AddrPort]loop.Load{}
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		if fe.Owner != v.name { // the kernel has the owner's endpoints there
			continue
		}
		loads, err := read(fe.Frontend)
		if err != nil {
			return nil, err
		}
		out[fe.Address] = loads
	}
	return out, nil
}

func (v *view) title() Name { return Name{Namespace: v.name.Namespace, Service: v.name.Name} }

// sum returns the sum of the loads that match, or nil if none were asked for.
func (v *view) sum(match func(plan.Address, netip.AddrPort) bool) *Load {
	if v.loads == nil {
		return nil
	}
	out := &Load{}
	if v.counted {
		out.Counters = &Counters{}
	}
	for a, endpoints := range v.loads {
		for at, l := range endpoints {
			if match(a, at) {
				out.add(l)
			}
		}
	}
	return out
}

func (l *Load) add(o loop.Load) {
	l.Active, l.Inactive = l.Active+o.Active, l.Inactive+o.Inactive
	if l.Counters == nil {
		return
	}
	l.Counters.Connections += o.Counters.Connections
	l.InPackets, l.OutPackets = l.InPackets+o.InPackets, l.OutPackets+o.OutPackets
	l.InBytes, l.OutBytes = l.InBytes+o.InBytes, l.OutBytes+o.OutBytes
}

// weighted adds the greatest weight of the loads that match.
func (v *view) weighted(l *Load, match func(plan.Address, netip.AddrPort) bool) *Load {
	for a, endpoints := range v.loads {
		for at, one := range endpoints {
			if match(a, at) && (l.Weight == nil || *l.Weight < one.Weight) {
				l.Weight = &one.Weight
			}
		}
	}
	return l
}

// service returns the Service's item.
func (v view) service() []Service {
	out := Service{Name: v.title(), State: Served, Created: v.Created, Load: v.sum(func(plan.Address, netip.AddrPort) bool { return true })}
	states := map[State]int{}
	for _, fe := range v.frontends() {
		out.Frontends++
		states[fe.State]++
		if out.Reason == "" && fe.State != Served {
			out.Reason = strings.TrimSuffix(fmt.Sprintf("%s: %s", fe.Address, fe.Reason), ": ")
		}
	}
	out.Served = states[Served] + states[Limited] + states[Rejecting] + states[Dropping]
	for _, e := range v.endpoints() {
		out.Endpoints++
		if e.State == Served || e.State == Limited {
			out.Ready++
		}
	}
	out.Draining = len(v.drains())
	for _, p := range v.Problems {
		out.Problems = append(out.Problems, fmt.Sprintf("%s: %s", p.Field, p.Reason))
	}
	switch {
	case states[Served] == out.Frontends && v.Waiting > 0:
		out.State, out.Reason = Pending, fmt.Sprintf("%d changes are not programmed yet", v.Waiting)
	case states[Served] == out.Frontends:
	case states[Pending] > 0:
		out.State = Pending
	case out.Served == 0:
		out.State = NotServed
	case states[Rejecting] == out.Frontends:
		out.State = Rejecting
	case states[Dropping] == out.Frontends:
		out.State = Dropping
	default:
		out.State = Limited
	}
	return []Service{out}
}

// frontends returns the items of the Service's frontends, and of those that it cannot have.
func (v view) frontends() []Frontend {
	var out []Frontend
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		f := Frontend{
			Name: v.title(), Address: fe.Address.String(), Kind: fe.Kind.String(), Port: fe.PortName, Policy: v.policy(fe.Kind),
			Source: fe.Masquerade.String(), Endpoints: len(fe.Backends), Scheduler: fe.Scheduler,
		}
		if fe.Owner == v.name {
			f.Load = v.sum(func(a plan.Address, _ netip.AddrPort) bool { return a == fe.Address })
		}
		if fe.Internal != nil {
			n := len(fe.Internal.Backends)
			f.Internal = &n
		}
		for _, p := range fe.SourceRanges {
			f.SourceRanges = append(f.SourceRanges, p.String())
		}
		if fe.Affinity != 0 {
			f.Affinity = fe.Affinity.String()
		}
		f.State, f.Reason = v.state(fe)
		if fe.Owner != v.name && fe.Owner != (plan.Name{}) {
			f.Owner = fe.Owner.String()
		}
		out = append(out, f)
	}
	for _, d := range v.Explanation.Dropped {
		out = append(out, Frontend{
			Name: v.title(), Address: d.Address.String(), Kind: d.Kind.String(), Policy: v.policy(d.Kind), State: NotServed, Reason: d.Why,
		})
	}
	return out
}

func (v *view) policy(k plan.Kind) string {
	if v.Explanation.IsLocal(k) {
		return "Local"
	}
	return "Cluster"
}

// state returns the state of a frontend, with the reason.
func (v *view) state(fe *loop.InspectedFrontend) (State, string) {
	switch {
	case fe.Owner != v.name && fe.Owner != (plan.Name{}):
		return NotServed, fmt.Sprintf("Service %v has this address: it is older, or has it as cluster IP", fe.Owner)
	case fe.Status.Refused != nil:
		return NotServed, fe.Status.Refused.Error()
	case fe.Status.Family != "":
		return NotServed, fe.Status.Family
	case !fe.Programmed:
		return Pending, "not programmed yet"
	case fe.Rejected:
		return Rejecting, "no endpoint can serve"
	case fe.Restricted && len(fe.SourceRanges) == 0:
		return Dropping, "internalTrafficPolicy is Local, and no endpoint is on this node"
	case fe.Status.Limited != "":
		return Limited, fe.Status.Limited
	case fe.DropExternal:
		return Limited, "externalTrafficPolicy is Local, and no endpoint is on this node: sources outside are dropped"
	}
	return Served, ""
}

// endpoints returns the items of the Service's endpoints.
func (v view) endpoints() []Endpoint {
	var out []Endpoint
	for _, e := range v.Explanation.Endpoints {
		at := plan.Address{Addr: e.At.Addr(), Port: e.At.Port(), Protocol: e.Protocol}
		item := Endpoint{Name: v.title(), Port: e.PortName, Address: at.String(), Pod: v.pods[e.At.Addr()], Node: e.Node}
		item.State, item.Reason = v.serves(e)
		match := func(a plan.Address, to netip.AddrPort) bool { return a.Protocol == e.Protocol && to == e.At }
		if v.loads != nil {
			item.Load = v.weighted(v.sum(match), match)
		}
		out = append(out, item)
	}
	return out
}

// serves returns whether an endpoint gets new connections, with the reason: one for all frontends, or one for each kind.
func (v *view) serves(e plan.ExplainedEndpoint) (State, string) {
	var kinds []plan.Kind
	on := false
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		if fe.PortName != e.PortName || fe.Protocol != e.Protocol || fe.Addr.Is4() != e.At.Addr().Is4() {
			continue
		}
		if !slices.Contains(kinds, fe.Kind) {
			kinds = append(kinds, fe.Kind)
		}
		state, _ := v.state(fe)
		on = on || state != NotServed
	}
	serving := 0
	var words []string
	for _, k := range kinds {
		reason := v.Explanation.Reason(e, k)
		if reason.IsServing() {
			serving++
		}
		words = append(words, fmt.Sprintf("%v: %v", k, reason))
	}
	if len(words) == 0 {
		return NotServed, "the Service has no frontend of this port and family"
	}
	_, first, _ := strings.Cut(words[0], ": ")
	if !slices.ContainsFunc(words, func(w string) bool { return !strings.HasSuffix(w, ": "+first) }) {
		words = []string{first}
	}
	text := strings.Join(words, "; ")
	switch {
	case !on:
		return NotServed, text + ", but no frontend is served"
	case serving == len(kinds):
		return Served, text
	case serving > 0:
		return Limited, text
	}
	return NotServed, text
}

// drains returns the items of the Service's draining endpoints.
func (v view) drains() []Drain {
	var out []Drain
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		if fe.Owner != v.name {
			continue
		}
		for _, d := range fe.Drains {
			item := Drain{
				Name: v.title(), Frontend: fe.Address.String(), Address: d.At.String(), Pod: v.pods[d.At.Addr()], Since: d.Unlisted,
				Reason: "listed, and gets no new connections",
			}
			if !d.Unlisted.IsZero() {
				item.Reason, item.Ends = "in no slice any more", d.Unlisted.Add(v.limit)
			}
			match := func(a plan.Address, to netip.AddrPort) bool { return a == fe.Address && to == d.At }
			if v.loads != nil {
				item.Load = v.weighted(v.sum(match), match)
			}
			out = append(out, item)
		}
	}
	return out
}
