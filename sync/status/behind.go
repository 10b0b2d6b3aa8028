package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A portKey is one port of a Service in one family. Frontends and endpoints of the same belong together.
type portKey struct {
	name     string
	protocol inet.Protocol
	is4      bool
}

func keyOfEndpoint(e *plan.ExplainedEndpoint) portKey {
	return portKey{e.PortName, e.Protocol, e.At.Addr().Is4()}
}

func keyOfFrontend(fe *loop.InspectedFrontend) portKey {
	return portKey{fe.PortName, fe.Protocol, fe.Addr.Is4()}
}

// A port has the frontends of a portKey, as far as endpoints are concerned. A Service may have a thousand ports and a million
// endpoints, so neither is walked for each of the other.
type port struct {
	kinds   []plan.Kind // of the frontends, each once
	isOn    bool        // a frontend is served
	answers map[[2]plan.Reason]answer
}

// An answer is whether endpoints with the same reasons get new connections, and why.
type answer struct {
	state  State
	reason string
}

// ports returns the ports of the Service that have a frontend.
func (v *view) ports() map[portKey]*port {
	out := map[portKey]*port{}
	for i := range v.Frontends {
		fe := &v.Frontends[i]
		key := keyOfFrontend(fe)
		p := out[key]
		if p == nil {
			p = &port{answers: map[[2]plan.Reason]answer{}}
			out[key] = p
		}
		if !slices.Contains(p.kinds, fe.Kind) {
			p.kinds = append(p.kinds, fe.Kind)
		}
		state, _ := v.state(fe)
		p.isOn = p.isOn || state != NotServed
	}
	return out
}

// serves returns whether an endpoint gets new connections, with the reason: one for all frontends, or one for each kind.
func (v *view) serves(e *plan.ExplainedEndpoint) (State, string) {
	p := v.behind[keyOfEndpoint(e)]
	if p == nil {
		return NotServed, "the Service has no frontend of this port and family"
	}
	reasons := [2]plan.Reason{e.Cluster, e.Local}
	a, known := p.answers[reasons]
	if !known {
		a = v.answer(e, p)
		p.answers[reasons] = a
	}
	return a.state, a.reason
}

func (v *view) answer(e *plan.ExplainedEndpoint, p *port) answer {
	serving := 0
	var reasons, words []string
	for _, k := range p.kinds {
		reason := v.Explanation.Reason(*e, k)
		if reason.IsServing() {
			serving++
		}
		reasons, words = append(reasons, reason.String()), append(words, fmt.Sprintf("%v: %v", k, reason))
	}
	if reasons = slices.Compact(reasons); len(reasons) == 1 {
		words = reasons
	}
	text := strings.Join(words, "; ")
	switch {
	case !p.isOn:
		return answer{NotServed, text + ", but no frontend is served"}
	case serving == len(p.kinds):
		return answer{Served, text}
	case serving > 0:
		return answer{Limited, text}
	}
	return answer{NotServed, text}
}

// A guide is a view for many explanations.
type guide struct {
	view
	endpoints map[portKey][]*plan.ExplainedEndpoint
	nodes     map[netip.AddrPort]string
}

func (v view) guide() guide {
	g := guide{v, map[portKey][]*plan.ExplainedEndpoint{}, map[netip.AddrPort]string{}}
	for i := range v.Explanation.Endpoints {
		e := &v.Explanation.Endpoints[i]
		key := keyOfEndpoint(e)
		g.endpoints[key] = append(g.endpoints[key], e)
		if _, known := g.nodes[e.At]; !known {
			g.nodes[e.At] = e.Node
		}
	}
	return g
}
