package object

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/sync/plan"
)

// addresses fills in the Service's addresses and the sources that may use its load-balancer IPs.
func (r *reader) addresses(out *plan.Service, svc *corev1.Service) {
	out.ClusterIPs = exact(r.clusterIPs(&svc.Spec))
	out.ExternalIPs = exact(r.externalIPs(&svc.Spec))
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	ranges := r.sourceRanges(&svc.Spec)
	out.LoadBalancerIPs = exact(slices.DeleteFunc(r.loadBalancerIPs(svc), ranges.closedTo))
	out.SourceRanges = exact(ranges.list())
}

func (r *reader) clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	var out distinct[netip.Addr]
	if len(spec.ClusterIPs) == 0 {
		r.addFrontend(&out, "spec.clusterIP", spec.ClusterIP)
	}
	for i, s := range spec.ClusterIPs {
		r.addFrontend(&out, fmt.Sprintf("spec.clusterIPs[%d]", i), s)
	}
	return out.list
}

func (r *reader) externalIPs(spec *corev1.ServiceSpec) []netip.Addr {
	var out distinct[netip.Addr]
	for i, s := range spec.ExternalIPs {
		r.addFrontend(&out, fmt.Sprintf("spec.externalIPs[%d]", i), s)
	}
	return out.list
}

// loadBalancerIPs returns the load balancer's addresses whose packets arrive here unchanged. Those of ipMode Proxy end
// at the load balancer, and a host name cannot be captured.
func (r *reader) loadBalancerIPs(svc *corev1.Service) []netip.Addr {
	var out distinct[netip.Addr]
	for i, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		r.addFrontend(&out, fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), in.IP)
	}
	return out.list
}

// A ranges holds the permitted sources of load-balancer IPs, by family.
type ranges struct{ v4, v6 familyRanges }

// A familyRanges holds the permitted sources of one family's load-balancer IPs: everyone, unless ranges were given.
type familyRanges struct {
	distinct[netip.Prefix]
	given bool // ranges were given, usable or not
	all   bool // one of the ranges holds every address
}

// of returns the ranges of a family.
func (rs *ranges) of(is6 bool) *familyRanges {
	if is6 {
		return &rs.v6
	}
	return &rs.v4
}

// closed reports whether ranges were given and none is usable. Serving everyone would then be the opposite of the
// request.
func (f *familyRanges) closed() bool { return f.given && len(f.list) == 0 }

// closedTo reports whether a load-balancer IP must not be served.
func (rs *ranges) closedTo(a netip.Addr) bool { return rs.of(a.Is6()).closed() }

// list returns the ranges of both families.
func (rs *ranges) list() []netip.Prefix {
	var out []netip.Prefix
	for _, f := range []*familyRanges{&rs.v4, &rs.v6} {
		if !f.all {
			out = append(out, f.list...)
		}
	}
	return out
}

// sourceRanges reads the field only: the annotation service.beta.kubernetes.io/load-balancer-source-ranges is for cloud
// providers.
func (r *reader) sourceRanges(spec *corev1.ServiceSpec) *ranges {
	const name = "spec.loadBalancerSourceRanges"
	rs := new(ranges)
	for i, s := range spec.LoadBalancerSourceRanges {
		p, ok := r.prefix(fmt.Sprintf("%s[%d]", name, i), strings.TrimSpace(s))
		if !ok {
			rs.of(looksLikeIPv6(s)).given = true
			continue
		}
		f := rs.of(p.Addr().Is6())
		f.given, f.all = true, f.all || p.Bits() == 0
		f.add(p)
	}
	for _, is6 := range []bool{false, true} {
		if rs.of(is6).closed() {
			r.add(name, "no range of IPv%d addresses is usable: the load-balancer IPs are served to nobody, instead of to everyone",
				map[bool]int{false: 4, true: 6}[is6])
		}
	}
	return rs
}
