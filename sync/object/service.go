package object

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// ProxyNameLabel on a Service, with any value, assigns it to another proxy.
const ProxyNameLabel = "service.kubernetes.io/service-proxy-name"

// Service reduces a Service. It reports false for a Service that this proxy does not serve: a headless one, an
// ExternalName, or another proxy's.
func Service(svc *corev1.Service) (plan.Service, bool) {
	return service(svc, &pool{})
}

func service(svc *corev1.Service, p *pool) (plan.Service, bool) {
	if unmanaged(svc) {
		return plan.Service{}, false
	}
	r := newReader("Service", svc.Namespace, svc.Name)
	spec := &svc.Spec
	out := plan.Service{
		Name:          plan.Name{Namespace: p.intern(svc.Namespace), Name: p.intern(svc.Name)},
		UID:           strings.Clone(string(svc.UID)),
		Created:       svc.CreationTimestamp.UTC(),
		Ports:         r.ports(spec, p),
		InternalLocal: r.internalLocal(spec),
		ExternalLocal: r.externalLocal(spec),
		Affinity:      r.affinity(spec),
		Scheduler:     p.intern(r.scheduler(svc)),
	}
	r.addresses(&out, svc)
	out.HealthCheckNodePort = r.healthCheckNodePort(spec, out.ExternalLocal)
	out.Problems = exact(r.problems)
	return out, true
}

// unmanaged reports whether no proxy, or another one, serves the Service.
func unmanaged(svc *corev1.Service) bool {
	_, another := svc.Labels[ProxyNameLabel]
	spec := &svc.Spec
	return another || spec.ClusterIP == "" || spec.ClusterIP == corev1.ClusterIPNone ||
		spec.Type == corev1.ServiceTypeExternalName
}

// hasNodePorts reports whether Services of this type have node ports.
func hasNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
}

func (r *reader) internalLocal(spec *corev1.ServiceSpec) bool {
	if spec.InternalTrafficPolicy == nil {
		return false
	}
	return r.local("spec.internalTrafficPolicy", string(*spec.InternalTrafficPolicy))
}

// externalLocal reads a policy without effect on Services that cannot be reached from outside.
func (r *reader) externalLocal(spec *corev1.ServiceSpec) bool {
	return r.local("spec.externalTrafficPolicy", string(spec.ExternalTrafficPolicy)) &&
		(hasNodePorts(spec) || len(spec.ExternalIPs) > 0)
}

// local reads a traffic policy, internal or external: both have the same values.
func (r *reader) local(field, policy string) bool {
	switch policy {
	case "Local":
		return true
	case "Cluster", "":
		return false
	}
	r.add(field, "%q is not a traffic policy (Cluster, Local); it is read as Cluster", policy)
	return false
}

// affinity returns the session-affinity timeout, in whole seconds; 0: none.
func (r *reader) affinity(spec *corev1.ServiceSpec) time.Duration {
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone, "":
		return 0
	case corev1.ServiceAffinityClientIP:
	default:
		r.add("spec.sessionAffinity", "%q is not an affinity (None, ClientIP); it is read as None", spec.SessionAffinity)
		return 0
	}
	const day = 86400 // the API's limit
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	if seconds < 1 || seconds > day {
		r.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d is not between 1 and %d; it is read as %d",
			seconds, day, corev1.DefaultClientIPServiceAffinitySeconds)
		seconds = corev1.DefaultClientIPServiceAffinitySeconds
	}
	return time.Duration(seconds) * time.Second
}

// scheduler returns the scheduler that the Service chooses, or none: a value too long for one is not kept.
func (r *reader) scheduler(svc *corev1.Service) string {
	const longest = 15 // IP_VS_SCHEDNAME_MAXLEN in include/uapi/linux/ip_vs.h, less the zero byte
	name := svc.Annotations[plan.SchedulerAnnotation]
	if len(name) > longest {
		r.add(plan.SchedulerField, "%.15q... is no name of a scheduler", name)
		return ""
	}
	return name
}

func (r *reader) healthCheckNodePort(spec *corev1.ServiceSpec, local bool) uint16 {
	if spec.Type != corev1.ServiceTypeLoadBalancer || !local || spec.HealthCheckNodePort == 0 {
		return 0
	}
	n, _ := r.portNumber("spec.healthCheckNodePort", spec.HealthCheckNodePort)
	return n
}

// ports returns the usable ports.
func (r *reader) ports(spec *corev1.ServiceSpec, p *pool) []plan.Port {
	out := make([]plan.Port, 0, len(spec.Ports))
	used := &portSet{map[portNumber]bool{}, map[portNumber]bool{}, map[portName]bool{}}
	for i := range spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		port, ok := r.port(field, &spec.Ports[i])
		if ok && hasNodePorts(spec) {
			port.NodePort = r.nodePort(field+".nodePort", &spec.Ports[i], used)
		}
		if ok && !r.repeats(field, port, used) {
			port.Name = p.intern(port.Name)
			used.add(port)
			out = append(out, port)
		}
	}
	return exact(out)
}

// port returns one port, without its node port.
func (r *reader) port(field string, in *corev1.ServicePort) (plan.Port, bool) {
	proto, known := protocol(in.Protocol)
	if !known {
		r.add(field+".protocol", "%q is not a protocol that can be served (TCP, UDP, SCTP)", in.Protocol)
	}
	n, valid := r.portNumber(field+".port", in.Port)
	return plan.Port{Name: in.Name, Proto: proto, Port: n}, known && valid
}

// nodePort returns a port's node port, or 0. An unusable node port does not cost the port its other addresses.
func (r *reader) nodePort(field string, in *corev1.ServicePort, used *portSet) uint16 {
	if in.NodePort == 0 {
		return 0
	}
	n, ok := r.portNumber(field, in.NodePort)
	if !ok {
		return 0
	}
	proto, _ := protocol(in.Protocol)
	if used.nodePorts[portNumber{proto, n}] {
		r.add(field, "another port of this Service has %d/%v already", n, proto)
		return 0
	}
	return n
}

// repeats reports a port that has the number or the name of another port of the Service.
func (r *reader) repeats(field string, port plan.Port, used *portSet) bool {
	switch {
	case used.numbers[portNumber{port.Proto, port.Port}]:
		r.add(field+".port", "another port of this Service is %d/%v already", port.Port, port.Proto)
	case used.names[portName{port.Proto, port.Name}]:
		r.add(field+".name", "another %v port of this Service is named %q already", port.Proto, port.Name)
	default:
		return false
	}
	return true
}

// A portSet holds the numbers, names and node ports of a Service's ports.
type portSet struct {
	numbers, nodePorts map[portNumber]bool
	names              map[portName]bool
}

// A portNumber is a number, and a portName a name, of one protocol.
type (
	portNumber struct {
		proto inet.Protocol
		n     uint16
	}
	portName struct {
		proto inet.Protocol
		name  string
	}
)

func (s *portSet) add(p plan.Port) {
	s.numbers[portNumber{p.Proto, p.Port}] = true
	s.names[portName{p.Proto, p.Name}] = true
	if p.NodePort != 0 {
		s.nodePorts[portNumber{p.Proto, p.NodePort}] = true
	}
}
