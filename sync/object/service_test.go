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

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// values compares addresses by value.
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

// planned returns the plan's input for web, edited.
func planned(edit func(*plan.Service)) plan.Service {
	svc := plan.Service{
		Name: plan.Name{Namespace: "default", Name: "web"}, UID: "u-1", Created: created,
		Ports:      []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80}},
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

// odd returns a note on web.
func odd(field, reason string) plan.Problem {
	p := wrong(field, reason)
	p.Note = true
	return p
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
				p.Ports = []plan.Port{{Name: "a", Proto: inet.TCP, Port: 53, NodePort: 30053},
					{Name: "b", Proto: inet.UDP, Port: 53, NodePort: 30053}, {Name: "c", Proto: inet.SCTP, Port: 53}}
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
				p.Ports = []plan.Port{{Name: "a", Proto: inet.TCP, Port: 1}, {Name: "b", Proto: inet.TCP, Port: 2, NodePort: 30000},
					{Name: "c", Proto: inet.TCP, Port: 3}}
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

func TestServiceScheduler(t *testing.T) {
	chooses := func(name string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Annotations = map[string]string{plan.SchedulerAnnotation: name} }
	}
	check(t, []situation{
		{"one", chooses("lc"), func(p *plan.Service) { p.Scheduler = "lc" }},
		{"empty", chooses(""), func(*plan.Service) {}},
		{"longer than any", chooses("a-hundred-megabytes-of-text"), func(p *plan.Service) {
			p.Problems = []plan.Problem{wrong(plan.SchedulerField, `"a-hundred-megab"... is no name of a scheduler`)}
		}},
	})
}
