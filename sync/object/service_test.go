package object_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// values lets addresses be compared as what they are.
var values = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

var created = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// web returns a Service with one port, edited.
func web(edit func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u-1",
			CreationTimestamp: metav1.NewTime(created.In(time.FixedZone("elsewhere", 3600)))},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeClusterIP,
			ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	edit(svc)
	return svc
}

// planned returns what the plan gets of web, edited.
func planned(edit func(*plan.Service)) plan.Service {
	svc := plan.Service{
		Name: plan.Name{Namespace: "default", Name: "web"}, UID: "u-1", Created: created,
		Ports:      []plan.Port{{Name: "http", Proto: ipvs.TCP, Port: 80}},
		ClusterIPs: addrs("10.96.0.10"),
	}
	edit(&svc)
	return svc
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// wrong returns a problem of web.
func wrong(field, reason string) plan.Problem {
	return plan.Problem{Object: "Service default/web", Field: field, Reason: reason}
}

// balanced makes a Service a load balancer with addresses.
func balanced(ips ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, ip := range ips {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

type situation struct {
	name string
	edit func(*corev1.Service)
	want func(*plan.Service)
}

func (s situation) run(t *testing.T) {
	got, ok := object.Service(web(s.edit))
	if !ok {
		t.Fatal("left alone")
	}
	if diff := cmp.Diff(planned(s.want), got, values); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func check(t *testing.T, situations []situation) {
	t.Helper()
	for _, s := range situations {
		t.Run(s.name, s.run)
	}
}

func TestServiceLeftAlone(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Service){
		"headless": func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"headless without port": func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.Ports = "None", nil
		},
		"headless SCTP": func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.Ports[0].Protocol = "None", corev1.ProtocolSCTP
		},
		"without cluster IP": func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil },
		"ExternalName":       func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
		"another proxy's":    func(s *corev1.Service) { s.Labels = map[string]string{object.ProxyNameLabel: "cilium"} },
		"a nameless proxy's": func(s *corev1.Service) { s.Labels = map[string]string{object.ProxyNameLabel: ""} },
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := object.Service(web(edit)); ok {
				t.Errorf("got %+v", got)
			}
		})
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
		{"IPv4 link-local is the node's DNS cache in many clusters",
			func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"169.254.20.10"} },
			func(p *plan.Service) { p.ExternalIPs = addrs("169.254.20.10") }},
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
				wrong("spec.clusterIPs[0]", `"010.096.000.010" has leading zeros; it is read as 10.96.0.10`),
				wrong("spec.externalIPs[0]", `"::ffff:192.0.2.1" is an IPv4-mapped IPv6 address; it is read as 192.0.2.1`),
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
				wrong("spec.externalIPs[10]", `"::ffff:127.0.0.1" is an IPv4-mapped IPv6 address; it is read as 127.0.0.1`),
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

// TestServiceSourceRanges has a load balancer of both families, and whom it serves.
func TestServiceSourceRanges(t *testing.T) {
	closed := func(version string) plan.Problem {
		return wrong("spec.loadBalancerSourceRanges", "no range of IPv"+version+
			" addresses can be used: its load-balancer IPs are not served, rather than to everyone")
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
				wrong("spec.loadBalancerSourceRanges[0]", `"010.0.0.0/8" has leading zeros; it is read as 10.0.0.0/8`),
				wrong("spec.loadBalancerSourceRanges[1]",
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

func TestServicePorts(t *testing.T) {
	ports := func(list ...corev1.ServicePort) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports = corev1.ServiceTypeNodePort, list }
	}
	check(t, []situation{
		{"no protocol is TCP", ports(corev1.ServicePort{Name: "http", Port: 80}), func(*plan.Service) {}},
		{"one port number by each protocol",
			ports(corev1.ServicePort{Name: "a", Protocol: "TCP", Port: 53, NodePort: 30053},
				corev1.ServicePort{Name: "b", Protocol: "UDP", Port: 53, NodePort: 30053},
				corev1.ServicePort{Name: "c", Protocol: "SCTP", Port: 53}),
			func(p *plan.Service) {
				p.Ports = []plan.Port{{Name: "a", Proto: ipvs.TCP, Port: 53, NodePort: 30053},
					{Name: "b", Proto: ipvs.UDP, Port: 53, NodePort: 30053}, {Name: "c", Proto: ipvs.SCTP, Port: 53}}
			}},
		{"node ports left over from another type", func(s *corev1.Service) {
			ports(corev1.ServicePort{Name: "http", Port: 80, NodePort: 30080})(s)
			s.Spec.Type = corev1.ServiceTypeClusterIP
		}, func(*plan.Service) {}},
		{"a bad port costs itself",
			ports(corev1.ServicePort{Name: "zero", Port: 0}, corev1.ServicePort{Name: "big", Port: 65536},
				corev1.ServicePort{Name: "icmp", Protocol: "ICMP", Port: 1}, corev1.ServicePort{Name: "http", Port: 80},
				corev1.ServicePort{Name: "again", Port: 80}, corev1.ServicePort{Name: "http", Port: 81}),
			func(p *plan.Service) {
				p.Problems = []plan.Problem{
					wrong("spec.ports[0].port", "0 is not a port number (1 to 65535)"),
					wrong("spec.ports[1].port", "65536 is not a port number (1 to 65535)"),
					wrong("spec.ports[2].protocol", `"ICMP" is not a protocol that can be served (TCP, UDP, SCTP)`),
					wrong("spec.ports[4].port", "another port of this Service is 80/tcp already"),
					wrong("spec.ports[5].name", `another tcp port of this Service is named "http" already`),
				}
			}},
		{"a bad node port costs the node port",
			ports(corev1.ServicePort{Name: "a", Port: 1, NodePort: -1}, corev1.ServicePort{Name: "b", Port: 2, NodePort: 30000},
				corev1.ServicePort{Name: "c", Port: 3, NodePort: 30000}),
			func(p *plan.Service) {
				p.Ports = []plan.Port{{Name: "a", Proto: ipvs.TCP, Port: 1}, {Name: "b", Proto: ipvs.TCP, Port: 2, NodePort: 30000},
					{Name: "c", Proto: ipvs.TCP, Port: 3}}
				p.Problems = []plan.Problem{
					wrong("spec.ports[0].nodePort", "-1 is not a port number (1 to 65535)"),
					wrong("spec.ports[2].nodePort", "another port of this Service has 30000/tcp already"),
				}
			}},
	})
}

func TestServicePolicies(t *testing.T) {
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	}
	internal := func(policy string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicy(policy))
		}
	}
	check(t, []situation{
		{"external Local of a Service that is not external", local, func(*plan.Service) {}},
		{"external Local with external IPs",
			func(s *corev1.Service) { local(s); s.Spec.ExternalIPs = []string{"192.0.2.1"} },
			func(p *plan.Service) { p.ExternalLocal, p.ExternalIPs = true, addrs("192.0.2.1") }},
		{"external Local with node ports",
			func(s *corev1.Service) { local(s); s.Spec.Type = corev1.ServiceTypeNodePort },
			func(p *plan.Service) { p.ExternalLocal = true }},
		{"external Local load balancer has a health check",
			func(s *corev1.Service) { local(s); s.Spec.Type = corev1.ServiceTypeLoadBalancer },
			func(p *plan.Service) { p.ExternalLocal, p.HealthCheckNodePort = true, 32000 }},
		{"bad health check port", func(s *corev1.Service) {
			local(s)
			s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 70000
		}, func(p *plan.Service) {
			p.ExternalLocal = true
			p.Problems = []plan.Problem{wrong("spec.healthCheckNodePort", "70000 is not a port number (1 to 65535)")}
		}},
		{"external Cluster has no health check", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 32000
		}, func(*plan.Service) {}},
		{"unknown external policy", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeNodePort, "local"
		}, func(p *plan.Service) {
			p.Problems = []plan.Problem{
				wrong("spec.externalTrafficPolicy", `"local" is not a traffic policy (Cluster, Local); it is read as Cluster`)}
		}},
		{"internal Local", internal("Local"), func(p *plan.Service) { p.InternalLocal = true }},
		{"internal Cluster", internal("Cluster"), func(*plan.Service) {}},
		{"unknown internal policy", internal("Zone"), func(p *plan.Service) {
			p.Problems = []plan.Problem{
				wrong("spec.internalTrafficPolicy", `"Zone" is not a traffic policy (Cluster, Local); it is read as Cluster`)}
		}},
	})
}

func TestServiceAffinity(t *testing.T) {
	affinity := func(kind string, seconds *int32) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinity(kind)
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: seconds}}
		}
	}
	lasts := func(d time.Duration) func(*plan.Service) { return func(p *plan.Service) { p.Affinity = d } }
	bad := func(n string) func(*plan.Service) {
		return func(p *plan.Service) {
			p.Affinity = 3 * time.Hour
			p.Problems = []plan.Problem{wrong("spec.sessionAffinityConfig.clientIP.timeoutSeconds",
				n+" is not between 1 and 86400; it is read as 10800")}
		}
	}
	check(t, []situation{
		{"timeout", affinity("ClientIP", ptr.To[int32](90)), lasts(90 * time.Second)},
		{"no timeout", affinity("ClientIP", nil), lasts(3 * time.Hour)},
		{"no configuration", func(s *corev1.Service) { s.Spec.SessionAffinity = "ClientIP" }, lasts(3 * time.Hour)},
		{"configuration of an affinity that is off", affinity("None", ptr.To[int32](90)), lasts(0)},
		{"negative", affinity("ClientIP", ptr.To[int32](-1)), bad("-1")},
		{"more than a day", affinity("ClientIP", ptr.To[int32](86401)), bad("86401")},
		{"unknown", affinity("Cookie", nil), func(p *plan.Service) {
			p.Problems = []plan.Problem{wrong("spec.sessionAffinity", `"Cookie" is not an affinity (None, ClientIP); it is read as None`)}
		}},
	})
}
