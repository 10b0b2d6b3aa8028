package plan

import (
	"net/netip"
	"slices"

	"kube-ipvs/internal/inet"
)

// A Reason is why an endpoint serves a frontend or does not. An endpoint that does not serve keeps its connections.
type Reason uint8

// The reasons.
const (
	Serves          Reason = iota // ready
	StandsIn                      // terminating and still serving, and no endpoint is ready
	NotReady                      // not ready, and not terminating and serving either
	Leaving                       // terminating, and others are ready
	HintedElsewhere               // hinted for other nodes or zones
	NotHere                       // the policy is Local, and the endpoint is on another node
	InServiceRange                // an address that is local on every node
)

// String returns the reason in words.
func (r Reason) String() string {
	return [...]string{
		"ready", "terminating, and none is ready", "not ready", "terminating", "hinted for other nodes or zones", "not on this node",
		"in a service range",
	}[r]
}

// IsServing reports whether the endpoint gets new connections.
func (r Reason) IsServing() bool { return r == Serves || r == StandsIn }

// An Explanation has the reasons for the endpoints of a Service's frontends. It is made on request: the reasons of all
// Services would take as much memory as their endpoints.
type Explanation struct {
	Endpoints     []ExplainedEndpoint
	Dropped       []DroppedFrontend
	InternalLocal bool // internalTrafficPolicy: Local
	ExternalLocal bool // externalTrafficPolicy: Local
}

// Reason returns the reason that an endpoint serves a kind of frontend or does not.
func (x *Explanation) Reason(e ExplainedEndpoint, k Kind) Reason {
	if x.IsLocal(k) {
		return e.Local
	}
	return e.Cluster
}

// IsLocal reports whether the policy of a kind of frontend is Local.
func (x *Explanation) IsLocal(k Kind) bool {
	if k == ClusterIP {
		return x.InternalLocal
	}
	return x.ExternalLocal
}

// An ExplainedEndpoint is an endpoint of one port of a Service.
type ExplainedEndpoint struct {
	PortName string // of the Service
	Protocol inet.Protocol
	At       netip.AddrPort
	Node     string // its node, or ""
	Cluster  Reason // for frontends with policy Cluster
	Local    Reason // for frontends with policy Local
}

// A DroppedFrontend is an address and port of a Service that gets no frontend of its own.
type DroppedFrontend struct {
	Address
	Kind Kind
	Why  string
}

// Explain returns the reasons for the result of Compute.
func Explain(cfg Config, svc Service, in []Slice, node Node) Explanation {
	out := Explanation{InternalLocal: svc.InternalLocal, ExternalLocal: svc.ExternalLocal}
	kinds := map[Address]Kind{}
	add := func(fe Frontend) {
		if first, dup := kinds[fe.Address]; dup {
			out.Dropped = append(out.Dropped, DroppedFrontend{fe.Address, fe.Kind, "is already served as the Service's " + first.String()})
			return
		}
		kinds[fe.Address] = fe.Kind
	}
	listed, families := listPorts(in), familiesOf(&svc)
	for _, port := range svc.Ports {
		for i := range families {
			family := &families[i]
			all := candidates(port, family.Family, listed)
			chosen := choose(&cfg, all, node)
			p := newPort(&cfg, &svc, port, family, chosen)
			if !family.served {
				p.frontends(node, func(fe Frontend) {
					if fe.Kind != NodePort { // these follow the families of the cluster IPs
						out.Dropped = append(out.Dropped, DroppedFrontend{fe.Address, fe.Kind, "the Service has no cluster IP of the family"})
					}
				})
				continue
			}
			p.frontends(node, add)
			cluster, local := chosen.cluster, chosen.local
			out.Endpoints = slices.Grow(out.Endpoints, len(all))
			for _, c := range all {
				out.Endpoints = append(out.Endpoints, ExplainedEndpoint{
					PortName: port.Name, Protocol: port.Proto, At: c.at(), Node: c.ep.Node,
					Cluster: why(&cfg, c, isNext(&cluster, c), node, false), Local: why(&cfg, c, isNext(&local, c), node, true),
				})
			}
		}
	}
	return out
}

// isNext reports whether a candidate is the first of a list, and takes it from there. Candidates come in the order of the list.
func isNext(list *[]candidate, c candidate) bool {
	if len(*list) == 0 || (*list)[0] != c {
		return false
	}
	*list = (*list)[1:]
	return true
}

// why returns the reason why an endpoint is chosen or is not.
func why(cfg *Config, c candidate, isChosen bool, node Node, local bool) Reason {
	switch {
	case isChosen && c.ep.Ready:
		return Serves
	case isChosen:
		return StandsIn
	case !cfg.mayServe(c.ep):
		return InServiceRange
	case !c.ep.Ready && !c.ep.standsIn():
		return NotReady
	case local && !node.runs(c.ep):
		return NotHere
	case !c.ep.Ready:
		return Leaving
	}
	return HintedElsewhere
}
