package manifest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fillService sets the defaults that the API server sets in a Service, as far as they matter to a proxy.
func fillService(svc *corev1.Service) {
	spec := &svc.Spec
	fill(&svc.Namespace, metav1.NamespaceDefault)
	fill(&spec.Type, corev1.ServiceTypeClusterIP)
	fill(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	fill(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	fillPointer(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	for i := range spec.Ports {
		fill(&spec.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	switch {
	case len(spec.ClusterIPs) == 0 && spec.ClusterIP != "":
		spec.ClusterIPs = []string{spec.ClusterIP}
	case len(spec.ClusterIPs) > 0:
		fill(&spec.ClusterIP, spec.ClusterIPs[0])
	}
}

// fillSlice sets the defaults that the API server and the slice controller set in an EndpointSlice.
func fillSlice(es *discoveryv1.EndpointSlice) {
	fill(&es.Namespace, metav1.NamespaceDefault)
	for i := range es.Ports {
		fillPointer(&es.Ports[i].Name, "")
		fillPointer(&es.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range es.Endpoints {
		c := &es.Endpoints[i].Conditions
		fillPointer(&c.Ready, true)
		fillPointer(&c.Serving, true)
		fillPointer(&c.Terminating, false)
	}
}

// fill sets an empty field.
func fill[T ~string](field *T, value T) {
	if *field == "" {
		*field = value
	}
}

// fillPointer sets an absent field.
func fillPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
