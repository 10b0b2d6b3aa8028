package plan

import (
	"net/netip"
	"slices"

	"kube-ipvs/internal/inet"
)

// A servicePort is one port of a Service in one family, with its endpoints chosen.
type servicePort struct {
	cfg     *Config
	svc     *Service
	port    Port
	family  *family
	chosen  choice
	cluster served
	local   served // where a policy is Local
}

// A served is a list of serving endpoints, with those that get no new connections and keep theirs.
type served struct{ backends, draining []netip.AddrPort }

func newPort(cfg *Config, svc *Service, port Port, family *family, chosen choice) servicePort {
	all := chosen.all
	if port.Proto == inet.UDP { // nothing tells its clients that an endpoint serves no more
		all = filter(all, (*Endpoint).serves)
	}
	p := servicePort{cfg: cfg, svc: svc, port: port, family: family, chosen: chosen, cluster: serve(chosen.cluster, all)}
	if svc.InternalLocal || svc.ExternalLocal {
		p.local = serve(chosen.local, all)
	}
	return p
}

// serve returns the serving endpoints, and the rest of all. Both are in order.
func serve(serving, all []candidate) served {
	s := served{
		backends: slices.Grow([]netip.AddrPort(nil), len(serving)),
		draining: slices.Grow([]netip.AddrPort(nil), len(all)-len(serving)),
	}
	for _, c := range all {
		if len(serving) > 0 && serving[0] == c {
			s.backends, serving = append(s.backends, c.at()), serving[1:]
		} else {
			s.draining = append(s.draining, c.at())
		}
	}
	return s
}

// frontends adds the port's frontends. An address listed twice is a load balancer's first, for its ranges.
func (p *servicePort) frontends(node Node, add func(Frontend)) {
	internal, external := p.internal(), p.external()
	for _, group := range []struct {
		kind  Kind
		port  uint16
		addrs []netip.Addr
		as    Frontend
	}{
		{ClusterIP, p.port.Port, p.svc.ClusterIPs, internal},
		{LoadBalancerIP, p.port.Port, p.svc.LoadBalancerIPs, p.ranged(external)},
		{ExternalIP, p.port.Port, p.svc.ExternalIPs, external},
		{NodePort, p.port.NodePort, node.Addresses, external},
	} {
		for _, addr := range group.addrs {
			if !p.family.has(addr) || group.port == 0 {
				continue
			}
			fe := group.as
			fe.Kind = group.kind
			fe.Address = Address{Addr: addr, Port: group.port, Protocol: p.port.Proto}
			fe.Rejected = rejects(fe)
			fe.OnNode = fe.Kind == NodePort || slices.Contains(node.Own, addr)
			fe.Allocated = p.cfg.routes(addr)
			fe.SourceRanges = withAddress(fe, node)
			add(fe)
		}
	}
}

// internal returns the common fields of the port's cluster-IP frontends.
func (p *servicePort) internal() Frontend {
	fe := p.frontend(p.cluster, MasqueradeExternal)
	if p.cfg.MasqueradeAll {
		fe.Masquerade = MasqueradeAll
	}
	if !p.svc.InternalLocal {
		return fe
	}
	fe.Backends, fe.Draining = p.local.backends, p.local.draining
	fe.Restricted = p.unserved() // to no source: packets are dropped, not rejected
	return fe
}

// external returns the common fields of the port's external frontends. A Local policy concerns external sources: pods and the
// node get the cluster's endpoints. Without a local endpoint, external sources are dropped before IPVS, so that one list is
// enough.
func (p *servicePort) external() Frontend {
	switch {
	case !p.svc.ExternalLocal:
		return p.frontend(p.cluster, MasqueradeAll)
	case p.unserved():
		fe := p.frontend(p.cluster, MasqueradeNone)
		fe.DropExternal = true
		return fe
	case slices.Equal(p.local.backends, p.cluster.backends):
		return p.frontend(p.local, MasqueradeNone)
	}
	fe := p.frontend(p.local, MasqueradeNone)
	fe.Internal = &Internal{Backends: p.cluster.backends, Draining: p.cluster.draining}
	return fe
}

func (p *servicePort) frontend(s served, m Masquerade) Frontend {
	return Frontend{
		Service: p.svc.Name, PortName: p.port.Name, Scheduler: p.cfg.Scheduler, Affinity: p.svc.Affinity, Masquerade: m, Backends: s.backends, Draining: s.draining,
	}
}

// unserved reports whether there are endpoints, but none on this node.
func (p *servicePort) unserved() bool { return p.chosen.any && len(p.local.backends) == 0 }

// rejects reports whether a frontend rejects new connections: it has no endpoints, and does not drop all packets anyway.
func rejects(fe Frontend) bool {
	drops := fe.Restricted && len(fe.SourceRanges) == 0
	return len(fe.Backends) == 0 && !drops
}

// ranged restricts a frontend to the Service's source ranges of the family.
func (p *servicePort) ranged(fe Frontend) Frontend {
	fe.Restricted, fe.SourceRanges = len(p.family.ranges) > 0, p.family.ranges
	return fe
}

// withAddress returns a frontend's ranges, with its own address if they allow the node. A node that holds the address, bound
// by us or by others, uses it as source when it connects to it, and the ranges alone would drop that.
func withAddress(fe Frontend, node Node) []netip.Prefix {
	if !slices.ContainsFunc(fe.SourceRanges, func(r netip.Prefix) bool { return slices.ContainsFunc(node.Own, r.Contains) }) {
		return fe.SourceRanges
	}
	return append(slices.Clip(fe.SourceRanges), netip.PrefixFrom(fe.Addr, fe.Addr.BitLen()))
}

// hairpins returns the endpoints that may be led back to themselves without being masqueraded anyway: those of this node, and where an
// external policy is Local those of other nodes that internal sources get. A pod of another node that asks here may be one of these.
func (p *servicePort) hairpins(node Node) []Hairpin {
	var out []Hairpin
	for _, c := range p.chosen.here {
		out = append(out, Hairpin{p.port.Proto, c.at()})
	}
	if !p.svc.ExternalLocal {
		return out
	}
	for _, c := range p.chosen.cluster {
		if !node.mayRun(c.ep) {
			out = append(out, Hairpin{p.port.Proto, c.at()})
		}
	}
	return out
}
