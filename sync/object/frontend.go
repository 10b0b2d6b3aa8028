package object

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/sync/plan"
)

// addresses fills in where the Service is reached, and by whom.
func (r *report) addresses(out *plan.Service, svc *corev1.Service) {
	out.ClusterIPs = exact(r.clusterIPs(&svc.Spec))
	out.ExternalIPs = exact(r.externalIPs(&svc.Spec))
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	ranges := r.sourceRanges(&svc.Spec)
	out.LoadBalancerIPs = exact(slices.DeleteFunc(r.loadBalancerIPs(svc), ranges.closedTo))
	out.SourceRanges = exact(ranges.list())
}

func (r *report) clusterIPs(spec *corev1.ServiceSpec) (list []netip.Addr) {
	if len(spec.ClusterIPs) == 0 {
		return r.appendFrontend(nil, "spec.clusterIP", spec.ClusterIP)
	}
	for i, s := range spec.ClusterIPs {
		list = r.appendFrontend(list, fmt.Sprintf("spec.clusterIPs[%d]", i), s)
	}
	return list
}

func (r *report) externalIPs(spec *corev1.ServiceSpec) (list []netip.Addr) {
	for i, s := range spec.ExternalIPs {
		list = r.appendFrontend(list, fmt.Sprintf("spec.externalIPs[%d]", i), s)
	}
	return list
}

// loadBalancerIPs returns the load balancer's addresses whose packets come here unchanged. Those of ipMode Proxy are the
// load balancer's own, and a host name is nothing to capture.
func (r *report) loadBalancerIPs(svc *corev1.Service) (list []netip.Addr) {
	for i, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		list = r.appendFrontend(list, fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), in.IP)
	}
	return list
}

// A ranges is whom the load-balancer IPs of each family serve.
type ranges struct{ v4, v6 familyRanges }

// A familyRanges is whom the load-balancer IPs of one family serve: everyone, unless something was asked for.
type familyRanges struct {
	list  []netip.Prefix
	asked bool // a range was given, usable or not
	all   bool // a range was given that holds every address
}

// of returns the ranges of a family.
func (rs *ranges) of(is6 bool) *familyRanges {
	if is6 {
		return &rs.v6
	}
	return &rs.v4
}

// closed says that ranges were given, of which none can be used. To serve everyone would be the contrary of what was
// asked for.
func (f *familyRanges) closed() bool { return f.asked && len(f.list) == 0 }

// closedTo says that a load-balancer IP cannot be served.
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
func (r *report) sourceRanges(spec *corev1.ServiceSpec) *ranges {
	const name = "spec.loadBalancerSourceRanges"
	rs := new(ranges)
	for i, s := range spec.LoadBalancerSourceRanges {
		p, ok := r.prefix(fmt.Sprintf("%s[%d]", name, i), strings.TrimSpace(s))
		if !ok {
			rs.of(looksLikeIPv6(s)).asked = true
			continue
		}
		f := rs.of(p.Addr().Is6())
		f.asked, f.all = true, f.all || p.Bits() == 0
		f.list = appendNew(f.list, p)
	}
	for _, is6 := range []bool{false, true} {
		if rs.of(is6).closed() {
			r.add(name, "no range of IPv%d addresses can be used: its load-balancer IPs are not served, rather than to everyone",
				map[bool]int{false: 4, true: 6}[is6])
		}
	}
	return rs
}
