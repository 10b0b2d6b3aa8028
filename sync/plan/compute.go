package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
)

// A Config has the operator's settings for all Services.
type Config struct {
	Scheduler     string   // --ipvs-scheduler
	Schedulers    []string // that Services may choose: --ipvs-service-schedulers
	MasqueradeAll bool     // --masquerade-all
	Bind          bool     // service addresses are put on the node: for each of them it matters whether the node has it anyway

	// ServiceCIDRs are the ranges that cluster IPs are allocated from. They are routed as a whole, so that
	// cluster IPs in them need no route of their own.
	ServiceCIDRs []netip.Prefix
}

// routes reports whether an address lies in a service range, which is routed as a whole.
func (c *Config) routes(a netip.Addr) bool {
	return slices.ContainsFunc(c.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// mayServe reports whether an endpoint lies in no service range. These are local on every node: IPVS would hand packets to the node's own
// sockets behind filter INPUT, and so open the node's ports past its firewall.
func (c *Config) mayServe(e *Endpoint) bool { return !c.routes(e.Addr) }

// schedule makes the scheduler that of a Service, if it may choose it.
func (c *Config) schedule(svc *Service) []Problem {
	switch {
	case svc.Scheduler == "" || svc.Scheduler == c.Scheduler:
		return nil
	case slices.Contains(c.Schedulers, svc.Scheduler):
		c.Scheduler = svc.Scheduler
		return nil
	}
	reason := fmt.Sprintf("%q is not one of --ipvs-service-schedulers=%s; it is read as %s", svc.Scheduler, strings.Join(c.Schedulers, ","), c.Scheduler)
	return []Problem{{Object: "Service " + svc.Name.String(), Field: SchedulerField, Reason: reason}}
}

// unusable returns the problems of a slice's endpoints that may not serve.
func (c *Config) unusable(in *Slice) []Problem {
	var out []Problem
	for i := range in.Endpoints {
		if e := &in.Endpoints[i]; !c.mayServe(e) {
			object := "EndpointSlice " + Name{in.Service.Namespace, in.Name}.String()
			out = append(out, Problem{Object: object, Field: "endpoints", Reason: fmt.Sprintf("%v is in a service range, which cannot serve", e.Addr)})
		}
	}
	return out
}

// Compute returns the desired state of a Service on this node.
func Compute(cfg Config, svc Service, in []Slice, node Node) Desired {
	f := Desired{Service: svc.Name, Problems: slices.Clone(svc.Problems)}
	for i := range in {
		f.Problems = append(f.Problems, in[i].Problems...)
		f.Problems = append(f.Problems, cfg.unusable(&in[i])...)
	}
	f.Problems = append(f.Problems, cfg.schedule(&svc)...)
	seen := make(map[Address]struct{})
	add := func(fe Frontend) {
		if _, dup := seen[fe.Address]; !dup {
			seen[fe.Address] = struct{}{}
			f.Frontends = append(f.Frontends, fe)
		}
	}
	listed, families := listPorts(in), familiesOf(&svc)
	for _, port := range svc.Ports {
		for i := range families {
			family := &families[i]
			if !family.served {
				continue
			}
			p := newPort(&cfg, &svc, port, family, choose(&cfg, candidates(port, family.Family, listed), node))
			p.frontends(node, add)
			f.Hairpins = append(f.Hairpins, p.hairpins(node)...)
			f.noteUnserved(&svc, &p)
		}
		f.UsesAddresses = f.UsesAddresses || port.NodePort != 0
	}
	// Addresses of the node are neither bound nor diverted nor routed, and the node connects to others from one of its own. Only
	// a cluster IP in a service range does not depend on them.
	f.UsesAddresses = f.UsesAddresses || slices.ContainsFunc(f.Frontends, func(fe Frontend) bool {
		return fe.Kind != ClusterIP || cfg.Bind || !fe.Allocated
	})
	f.Health = health(&cfg, svc, in, node)
	f.HealthChecks = healthChecks(svc, node)
	f.UsesAddresses = f.UsesAddresses || svc.HealthCheckNodePort != 0
	return f
}

// noteUnserved notes the Local policies of a Service that has endpoints for a port, but none on this node.
func (f *Desired) noteUnserved(svc *Service, p *servicePort) {
	if !(svc.InternalLocal || svc.ExternalLocal) || !p.unserved() {
		return
	}
	if f.Unserved == nil {
		f.Unserved = map[inet.Family]Unserved{}
	}
	f.Unserved[p.family.Family] = Unserved{Internal: svc.InternalLocal, External: svc.ExternalLocal}
}

// A family is what the ports of a Service have in common in one family.
type family struct {
	inet.Family
	served bool           // the Service has a cluster IP of the family
	ranges []netip.Prefix // its source ranges of the family
}

func (f *family) has(a netip.Addr) bool { return inet.FamilyOf(a) == f.Family }

// familiesOf returns both families of a Service, IPv4 first. Node ports are served in the families of the cluster IPs.
func familiesOf(svc *Service) [2]family {
	out := [2]family{{Family: inet.IPv4}, {Family: inet.IPv6}}
	for i := range out {
		f := &out[i]
		f.served = slices.ContainsFunc(svc.ClusterIPs, f.has)
		for _, r := range svc.SourceRanges {
			if f.has(r.Addr()) {
				f.ranges = append(f.ranges, r)
			}
		}
	}
	return out
}

// health counts the distinct addresses of ready endpoints on this node. A pod of two families has two, and counts once:
// kube-proxy counts by family, and answers each with its own. Terminating ones never count, so that the load balancer turns
// away while the Local fallback still serves (KEP-1669). Nor do those of slices without a port: pods that lack the named port of the
// Service are ready, and serve nothing.
func health(cfg *Config, svc Service, in []Slice, node Node) *Health {
	if svc.HealthCheckNodePort == 0 {
		return nil
	}
	here := make(map[netip.Addr]struct{})
	count := map[bool]int{} // by whether it is IPv4
	for i := range in {
		if len(in[i].Ports) == 0 {
			continue
		}
		for j := range in[i].Endpoints {
			ep := &in[i].Endpoints[j]
			if _, again := here[ep.Addr]; !again && ep.Ready && node.runs(ep) && cfg.mayServe(ep) {
				here[ep.Addr] = struct{}{}
				count[ep.Addr.Is4()]++
			}
		}
	}
	return &Health{Port: svc.HealthCheckNodePort, LocalEndpoints: max(count[true], count[false])}
}

// healthChecks lists the addresses at which a health-check node port answers.
func healthChecks(svc Service, node Node) []netip.AddrPort {
	if svc.HealthCheckNodePort == 0 {
		return nil
	}
	var out []netip.AddrPort
	for _, a := range slices.Concat(node.Own, svc.LoadBalancerIPs) {
		out = append(out, netip.AddrPortFrom(a, svc.HealthCheckNodePort))
	}
	return out
}
