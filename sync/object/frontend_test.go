package object_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/sync/plan"
)

// balanced makes a Service a load balancer with addresses.
func balanced(ips ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, ip := range ips {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

func TestServiceAddresses(t *testing.T) {
	check(t, []situation{
		{"cluster IP", func(*corev1.Service) {}, func(*plan.Service) {}},
		{"cluster IP of an old object, without a list",
			func(s *corev1.Service) { s.Spec.ClusterIPs = nil },
			func(*plan.Service) {}},
		{"two families",
			func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::a"} },
			func(p *plan.Service) { p.ClusterIPs = addrs("10.96.0.10", "fd00::a") }},
		{"external IPs of both families, one twice",
			func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1", "2001:db8::1", "192.0.2.1"} },
			func(p *plan.Service) { p.ExternalIPs = addrs("192.0.2.1", "2001:db8::1") }},
		{"IPv4 link-local is where cloud metadata services are, and the node's DNS cache",
			func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"169.254.169.254", "0.1.2.3"} },
			func(p *plan.Service) {
				p.Problems = []plan.Problem{
					wrong("spec.externalIPs[0]", "169.254.169.254 is a link-local address, which a Service cannot have"),
					wrong("spec.externalIPs[1]", `0.1.2.3 is an address of "this network", which a Service cannot have`),
				}
			}},
		{"load balancer: VIP, no mode, Proxy, host name", func(s *corev1.Service) {
			balanced("203.0.113.1", "203.0.113.2", "203.0.113.3", "")(s)
			s.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeVIP)
			s.Status.LoadBalancer.Ingress[2].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
			s.Status.LoadBalancer.Ingress[3].Hostname = "lb.example.com"
		}, func(p *plan.Service) { p.LoadBalancerIPs = addrs("203.0.113.1", "203.0.113.2") }},
		{"status of a load balancer that is none any more", func(s *corev1.Service) {
			balanced("203.0.113.1")(s)
			s.Spec.Type = corev1.ServiceTypeNodePort
		}, func(*plan.Service) {}},
		{"addresses that old API servers accepted", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"010.096.000.010"}
			s.Spec.ExternalIPs = []string{"::ffff:192.0.2.1", "192.0.2.1"}
		}, func(p *plan.Service) {
			p.ExternalIPs = addrs("192.0.2.1")
			p.Problems = []plan.Problem{
				odd("spec.clusterIPs[0]", `"010.096.000.010" has leading zeros; it is read as 10.96.0.10`),
				odd("spec.externalIPs[0]", `"::ffff:192.0.2.1" is an IPv4-mapped IPv6 address; it is read as 192.0.2.1`),
			}
		}},
		{"addresses that no Service can have", func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"192.0.2.1", "0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255", "::", "::1",
				"ff02::1", "fe80::1", "fe80::1%eth0", "::ffff:127.0.0.1", "example.com", ""}
		}, func(p *plan.Service) {
			p.ExternalIPs = addrs("192.0.2.1")
			p.Problems = []plan.Problem{
				wrong("spec.externalIPs[1]", "0.0.0.0 is the unspecified address, which a Service cannot have"),
				wrong("spec.externalIPs[2]", "127.0.0.1 is a loopback address, which a Service cannot have"),
				wrong("spec.externalIPs[3]", "224.0.0.251 is a multicast address, which a Service cannot have"),
				wrong("spec.externalIPs[4]", "255.255.255.255 is the broadcast address, which a Service cannot have"),
				wrong("spec.externalIPs[5]", ":: is the unspecified address, which a Service cannot have"),
				wrong("spec.externalIPs[6]", "::1 is a loopback address, which a Service cannot have"),
				wrong("spec.externalIPs[7]", "ff02::1 is a multicast address, which a Service cannot have"),
				wrong("spec.externalIPs[8]", "fe80::1 is a link-local address, which a Service cannot have"),
				wrong("spec.externalIPs[9]", `"fe80::1%eth0" has a zone, which means nothing outside its node`),
				odd("spec.externalIPs[10]", `"::ffff:127.0.0.1" is an IPv4-mapped IPv6 address; it is read as 127.0.0.1`),
				wrong("spec.externalIPs[10]", "127.0.0.1 is a loopback address, which a Service cannot have"),
				wrong("spec.externalIPs[11]", `"example.com" is not an IP address`),
				wrong("spec.externalIPs[12]", `"" is not an IP address`),
			}
		}},
		{"cluster and load-balancer IPs are not trusted either", func(s *corev1.Service) {
			balanced("127.0.0.1", "203.0.113.1")(s)
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "::1", nil
		}, func(p *plan.Service) {
			p.ClusterIPs, p.LoadBalancerIPs = nil, addrs("203.0.113.1")
			p.Problems = []plan.Problem{
				wrong("spec.clusterIP", "::1 is a loopback address, which a Service cannot have"),
				wrong("status.loadBalancer.ingress[0].ip", "127.0.0.1 is a loopback address, which a Service cannot have"),
			}
		}},
	})
}

// TestServiceSourceRanges has a load balancer of both families, and its permitted sources.
func TestServiceSourceRanges(t *testing.T) {
	closed := func(version string) plan.Problem {
		return wrong("spec.loadBalancerSourceRanges", "no range of IPv"+version+
			" addresses is usable: the load-balancer IPs are served to nobody, instead of to everyone")
	}
	for _, c := range []struct {
		name     string
		ranges   []string
		want     []netip.Prefix
		served   []netip.Addr // nil: both
		problems []plan.Problem
	}{
		{"none", nil, nil, nil, nil},
		{"spaces", []string{" 10.0.0.0/8", "10.1.0.0/16 ", "\t2001:db8::/32 "},
			prefixes("10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"), nil, nil},
		{"host bits and repetition", []string{"10.0.0.1/8", "10.0.0.0/8"}, prefixes("10.0.0.0/8"), nil, nil},
		{"all of IPv4", []string{"10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32"}, prefixes("2001:db8::/32"), nil, nil},
		{"all of IPv6", []string{"10.0.0.0/8", "::/0", "2001:db8::/32"}, prefixes("10.0.0.0/8"), nil, nil},
		{"one cannot be used", []string{"10.0.0.0/8", "10.0.0.0/33"}, prefixes("10.0.0.0/8"), nil,
			[]plan.Problem{wrong("spec.loadBalancerSourceRanges[1]", `"10.0.0.0/33" is not a range of IP addresses`)}},
		{"none of a family can be used", []string{"10.0.0.0", "2001:db8::/32"}, prefixes("2001:db8::/32"), addrs("2001:db8::b"),
			[]plan.Problem{wrong("spec.loadBalancerSourceRanges[0]", `"10.0.0.0" is not a range of IP addresses`), closed("4")}},
		{"none of the other family can be used", []string{"10.0.0.0/8", "2001:db8::/x"}, prefixes("10.0.0.0/8"),
			addrs("203.0.113.1"),
			[]plan.Problem{wrong("spec.loadBalancerSourceRanges[1]", `"2001:db8::/x" is not a range of IP addresses`), closed("6")}},
		{"what old API servers accepted", []string{"010.0.0.0/8", "::ffff:192.0.2.0/120"}, prefixes("10.0.0.0/8", "192.0.2.0/24"), nil,
			[]plan.Problem{
				odd("spec.loadBalancerSourceRanges[0]", `"010.0.0.0/8" has leading zeros; it is read as 10.0.0.0/8`),
				odd("spec.loadBalancerSourceRanges[1]",
					`"::ffff:192.0.2.0/120" is a range of IPv4-mapped IPv6 addresses; it is read as 192.0.2.0/24`),
			}},
		{"neither family", []string{"::ffff:192.0.2.0/24", "2001:db8::/32"}, prefixes("2001:db8::/32"), nil,
			[]plan.Problem{wrong("spec.loadBalancerSourceRanges[0]",
				`"::ffff:192.0.2.0/24" is neither a range of IPv4 nor one of IPv6 addresses`)}},
	} {
		t.Run(c.name, situation{
			edit: func(s *corev1.Service) {
				balanced("203.0.113.1", "2001:db8::b")(s)
				s.Spec.LoadBalancerSourceRanges = c.ranges
			},
			want: func(p *plan.Service) {
				p.SourceRanges, p.Problems, p.LoadBalancerIPs = c.want, c.problems, c.served
				if c.served == nil {
					p.LoadBalancerIPs = addrs("203.0.113.1", "2001:db8::b")
				}
			},
		}.run)
	}
}
