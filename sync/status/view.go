package status

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A view is one Service as the loop has it, from which items are made.
type view struct {
	name plan.Name
	loop.Inspection
	limit  time.Duration // of drains
	behind map[portKey]*port
	pods   map[netip.Addr]string
	loads  *loads // nil: not asked for
}

// loads are the kernel's states behind a Service, and their sums.
type loads struct {
	counted   bool // they have counters
	of        map[plan.Address]map[netip.AddrPort]loop.Load
	total     loop.Load
	frontends map[plan.Address]loop.Load
	endpoints map[plan.Address]loop.Load // by their own addresses
}

// view returns a Service. Pods are named if it is the only one asked about.
func (s *Server) view(ctx context.Context, name plan.Name, single bool) (view, error) {
	in, err := s.Loop.Inspect(ctx, name)
	v := view{name: name, Inspection: in, limit: s.DrainLimit}
	v.behind = v.ports()
	if err == nil && single && s.Pods != nil {
		v.pods = s.Pods(ctx, name)
	}
	return v, err
}

// readLoads reads the loads of the Service's frontends, and sums them up.
func (v *view) readLoads(counted bool, read func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error)) error {
	v.loads = &loads{
		counted: counted, of: map[plan.Address]map[netip.AddrPort]loop.Load{},
		frontends: map[plan.Address]loop.Load{}, endpoints: map[plan.Address]loop.Load{},
	}
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		if fe.Owner != v.name { // the kernel has the owner's endpoints there
			continue
		}
		found, err := read(fe.Frontend)
		if err != nil {
			return err
		}
		v.loads.of[fe.Address] = found
		for at, l := range found {
			endpoint := addressOf(at, fe.Protocol)
			v.loads.total = v.loads.total.Add(l)
			v.loads.frontends[fe.Address] = v.loads.frontends[fe.Address].Add(l)
			v.loads.endpoints[endpoint] = v.loads.endpoints[endpoint].Add(l)
		}
	}
	return nil
}

func addressOf(at netip.AddrPort, proto inet.Protocol) plan.Address {
	return plan.Address{Addr: at.Addr(), Port: at.Port(), Protocol: proto}
}

// sum returns the sum of loads as an item has it.
func (l *loads) sum(of loop.Load) *Load {
	out := &Load{Active: of.Active, Inactive: of.Inactive}
	if l.counted {
		counters := Counters(of.Counters)
		out.Counters = &counters
	}
	return out
}

// one returns the load of an endpoint, if it has one, with its weight.
func (l *loads) one(of loop.Load, exists bool) *Load {
	out := l.sum(of)
	if exists {
		out.Weight = &of.Weight
	}
	return out
}

func (v *view) title() Name { return titleOf(v.name) }

func titleOf(name plan.Name) Name { return Name{Namespace: name.Namespace, Service: name.Name} }

// problems returns the Service's problems in words.
func (v *view) problems() (out []string) {
	for _, p := range v.Problems {
		out = append(out, fmt.Sprintf("%s: %s", p.Field, p.Reason))
	}
	return out
}

// service returns the Service's item.
func (v view) service() []Service {
	out := Service{Name: v.title(), State: Served, Created: v.Created, Problems: v.problems()}
	if v.loads != nil {
		out.Load = v.loads.sum(v.loads.total)
	}
	states := map[State]int{}
	for _, fe := range v.frontends() {
		out.Frontends++
		states[fe.State]++
		if out.Reason == "" && fe.State != Served {
			out.Reason = strings.TrimSuffix(fmt.Sprintf("%s: %s", fe.Address, fe.Reason), ": ")
		}
	}
	out.Served = states[Served] + states[Limited] + states[Rejecting] + states[Dropping]
	out.Endpoints = len(v.Explanation.Endpoints)
	for i := range v.Explanation.Endpoints {
		if state, _ := v.serves(&v.Explanation.Endpoints[i]); state == Served || state == Limited {
			out.Ready++
		}
	}
	out.Draining = v.draining()
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
		if v.loads != nil && fe.Owner == v.name {
			f.Load = v.loads.sum(v.loads.frontends[fe.Address])
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
		return NotServed, fe.ServedFor()
	case fe.Status.Refused != nil:
		return NotServed, fe.Status.Refused.Error()
	case fe.Status.Lacks != "":
		return NotServed, fe.Status.Lacks
	case fe.Status.Family != "":
		return NotServed, fe.Status.Family
	case !fe.Programmed && fe.Status.Limited == "": // else that is why
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
	for i := range v.Explanation.Endpoints {
		e := &v.Explanation.Endpoints[i]
		at := addressOf(e.At, e.Protocol)
		item := Endpoint{Name: v.title(), Port: e.PortName, Address: at.String(), Pod: v.pods[e.At.Addr()], Node: e.Node}
		item.State, item.Reason = v.serves(e)
		if v.loads != nil {
			l, exists := v.loads.endpoints[at]
			item.Load = v.loads.one(l, exists)
		}
		out = append(out, item)
	}
	return out
}

// draining returns the number of the Service's draining endpoints.
func (v *view) draining() (n int) {
	for i := range v.Frontends {
		if v.Frontends[i].Owner == v.name { // the kernel has the owner's endpoints there
			n += len(v.Frontends[i].Drains)
		}
	}
	return n
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
			if v.loads != nil {
				l, exists := v.loads.of[fe.Address][d.At]
				item.Load = v.loads.one(l, exists)
			}
			out = append(out, item)
		}
	}
	return out
}
