package plan

import (
	"net/netip"
	"slices"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
)

// A servicePort is one port of a Service in one family, with its endpoints chosen.
type servicePort struct {
	cfg     *Config
	svc     *Service
	port    Port
	family  netip.Addr
	chosen  choice
	server  ipvs.Server
	cluster served
	local   served // where a policy is Local
}

// A served is a list of endpoints that serve, with those that are listed but don't.
type served struct{ reals, draining []netip.AddrPort }

func newPort(cfg *Config, svc *Service, port Port, family netip.Addr, chosen choice) servicePort {
	p := servicePort{
		cfg: cfg, svc: svc, port: port, family: family, chosen: chosen,
		server:  ipvs.Server{Scheduler: cfg.Scheduler, Timeout: uint32(svc.Affinity.Seconds()), Flags: flagsOf(cfg.Scheduler)},
		cluster: serve(chosen.cluster, chosen.draining),
	}
	if svc.InternalLocal || svc.ExternalLocal {
		p.local = serve(chosen.local, chosen.draining)
	}
	return p
}

// flagsOf returns the flags for a scheduler. Those that choose by the client's address drop its packets when their choice
// has weight 0, unless they are told to choose again (IP_VS_SVC_F_SCHED_SH_FALLBACK and IP_VS_SVC_F_SCHED_MH_FALLBACK
// in include/uapi/linux/ip_vs.h).
func flagsOf(scheduler string) ipvs.Flags {
	if scheduler == "sh" || scheduler == "mh" {
		return ipvs.Flag1
	}
	return 0
}

// serve lists the endpoints that serve, and those of all that don't. Both are in order.
func serve(reals, all []candidate) served {
	s := served{
		reals:    slices.Grow([]netip.AddrPort(nil), len(reals)),
		draining: slices.Grow([]netip.AddrPort(nil), len(all)-len(reals)),
	}
	for _, c := range all {
		if len(reals) > 0 && reals[0] == c {
			s.reals, reals = append(s.reals, c.at()), reals[1:]
		} else {
			s.draining = append(s.draining, c.at())
		}
	}
	return s
}

// frontends adds the port's frontends. An address that is listed twice is a load balancer's first, for its ranges.
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
			if addr.Is4() != p.family.Is4() || group.port == 0 {
				continue
			}
			fe := group.as
			fe.Kind = group.kind
			fe.Key = ipvs.AddrKey(p.port.Proto, netip.AddrPortFrom(addr, group.port))
			fe.Rejected = rejects(fe)
			fe.Internal = internalOf(fe)
			p.attract(&fe, node)
			fe.Ranges = withAddress(fe, node)
			add(fe)
		}
	}
}

// internal returns what all cluster-IP frontends of the port have in common.
func (p *servicePort) internal() Frontend {
	fe := p.frontend(p.cluster, MasqueradeExternal)
	if p.cfg.MasqueradeAll {
		fe.Treatment = Masquerade
	}
	if !p.svc.InternalLocal {
		return fe
	}
	fe.Reals, fe.Draining = p.local.reals, p.local.draining
	fe.Ranged = p.unserved() // for nobody: what is dropped, not refused, is as if no source were allowed
	return fe
}

// external returns what all frontends of the port that face outside have in common. A Local policy concerns external sources:
// pods and the node get the cluster's endpoints. Where there is no local endpoint external sources are dropped before they get
// to IPVS, so that one list is enough.
func (p *servicePort) external() Frontend {
	switch {
	case !p.svc.ExternalLocal:
		return p.frontend(p.cluster, Masquerade)
	case p.unserved():
		return p.frontend(p.cluster, DropExternal)
	case slices.Equal(p.local.reals, p.cluster.reals):
		return p.frontend(p.local, KeepSource)
	}
	fe := p.frontend(p.local, KeepSource)
	fe.Internal = &Internal{Reals: p.cluster.reals, Draining: p.cluster.draining}
	return fe
}

// internalOf returns the frontend's list for internal sources with its alias.
func internalOf(fe Frontend) *Internal {
	if fe.Internal == nil {
		return nil
	}
	in := *fe.Internal
	in.Key = ipvs.AddrKey(fe.Key.Proto, netip.AddrPortFrom(Alias(fe.Key.Addr), fe.Key.Port))
	return &in
}

func (p *servicePort) frontend(s served, t Treatment) Frontend {
	return Frontend{Port: p.port.Name, Server: p.server, Treatment: t, Reals: s.reals, Draining: s.draining}
}

// unserved reports whether there are endpoints, but none on this node.
func (p *servicePort) unserved() bool { return p.chosen.any && len(p.local.reals) == 0 }

// rejects reports whether a frontend rejects new connections: nobody serves it, and it does not drop everybody anyway.
func rejects(fe Frontend) bool {
	drops := fe.Ranged && len(fe.Ranges) == 0
	return len(fe.Reals) == 0 && !drops
}

// ranged restricts a frontend to the Service's source ranges of the family.
func (p *servicePort) ranged(fe Frontend) Frontend {
	for _, r := range p.svc.SourceRanges {
		if r.Addr().Is4() == p.family.Is4() {
			fe.Ranged = true
			fe.Ranges = append(fe.Ranges, r)
		}
	}
	return fe
}

// withAddress returns a frontend's ranges, with its own address where they allow the node. A node that has the address, bound
// by us or by somebody else, talks to it from it: to the ranges that would be a stranger.
func withAddress(fe Frontend, node Node) []netip.Prefix {
	if !slices.ContainsFunc(fe.Ranges, func(r netip.Prefix) bool { return slices.ContainsFunc(node.Own, r.Contains) }) {
		return fe.Ranges
	}
	return append(slices.Clip(fe.Ranges), netip.PrefixFrom(fe.Key.Addr, fe.Key.Addr.BitLen()))
}

// attract adds what makes the node take packets for a frontend, and what gives the node itself a way there. What the node has
// anyway needs nothing.
func (p *servicePort) attract(fe *Frontend, node Node) {
	addr := fe.Key.Addr
	host := netip.PrefixFrom(addr, addr.BitLen())
	switch {
	case fe.Kind == NodePort || slices.Contains(node.Own, addr):
	case p.cfg.Bind:
		fe.VIPs = []vip.Item{{Kind: vip.Address, Prefix: host}}
	case fe.Kind != ClusterIP:
		fe.Diverted = true
		fe.VIPs = []vip.Item{{Kind: vip.Divert, Prefix: host}, {Kind: vip.LastRoute, Prefix: host}}
	case !p.cfg.routes(addr):
		fe.VIPs = []vip.Item{{Kind: vip.Local, Prefix: host}}
	}
}

func (p *servicePort) hairpins() []Hairpin {
	var out []Hairpin
	for _, c := range p.chosen.here {
		out = append(out, Hairpin{p.port.Proto, c.at()})
	}
	return out
}
