package manifest

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// An id identifies an object.
type id struct{ kind, namespace, name string }

// String returns the object's name in Problems.
func (i id) String() string {
	if i.namespace == "" {
		return i.kind + " " + i.name
	}
	return i.kind + " " + i.namespace + "/" + i.name
}

func (i id) compare(o id) int {
	return cmp.Or(cmp.Compare(i.kind, o.kind), cmp.Compare(i.namespace, o.namespace), cmp.Compare(i.name, o.name))
}

// An entry is an object from a document.
type entry struct {
	id    id
	where string
	value any // plan.Service, plan.Slice, object.Node or object.CIDRs
}

// add adds an object of a known kind, or nil, to the file.
func (f *file) add(where string, obj runtime.Object) {
	switch o := obj.(type) {
	case *corev1.Service:
		fillService(o)
		f.addService(where, o)
	case *discoveryv1.EndpointSlice:
		fillSlice(o)
		f.addSlice(where, o)
	case *corev1.Node:
		f.append(where, id{"Node", "", o.Name}, object.NodeOf(o))
	case *networkingv1.ServiceCIDR:
		cidrs := object.ServiceCIDR(o)
		f.append(where, id{"ServiceCIDR", "", o.Name}, cidrs)
	}
}

func (f *file) addService(where string, svc *corev1.Service) {
	spec := &svc.Spec
	name := idOf("Service", &svc.ObjectMeta)
	value, served := object.Service(svc)
	switch {
	case served && spec.ClusterIPs[0] != spec.ClusterIP:
		f.unusable(where, "spec.clusterIP", name.String()+" has another address in spec.clusterIPs[0]")
	case served:
		f.reportMissingNodePorts(where, name, svc)
		f.append(where, name, value)
	case spec.ClusterIP == "" && spec.Type != corev1.ServiceTypeExternalName:
		f.unusable(where, "spec.clusterIP", name.String()+" has none, and there is no API server that would allocate one: "+
			"write an address, or None for a headless Service")
	}
}

// reportMissingNodePorts reports the ports of a NodePort Service that have no node port; the Service is served without
// them.
func (f *file) reportMissingNodePorts(where string, name id, svc *corev1.Service) {
	if svc.Spec.Type != corev1.ServiceTypeNodePort {
		return
	}
	for i, p := range svc.Spec.Ports {
		if p.NodePort == 0 {
			f.problems = append(f.problems, plan.Problem{Object: where, Field: fmt.Sprintf("spec.ports[%d].nodePort", i),
				Reason: name.String() + " has none, and there is no API server that would allocate one"})
		}
	}
}

func (f *file) addSlice(where string, es *discoveryv1.EndpointSlice) {
	value, served := object.Slice(es)
	if served {
		f.append(where, idOf("EndpointSlice", &es.ObjectMeta), value)
		return
	}
	for _, p := range value.Problems {
		f.unusable(where, p.Field, p.Object+": "+p.Reason)
	}
}

// append adds an object to the file, if its name is valid.
func (f *file) append(where string, i id, value any) {
	names := map[string]string{"metadata.name": i.name, "metadata.namespace": i.namespace}
	for _, field := range []string{"metadata.name", "metadata.namespace"} {
		if why := content.IsPathSegmentName(names[field]); len(why) > 0 {
			f.unusable(where, field, fmt.Sprintf("%q %s", names[field], why[0]))
			return
		}
	}
	if i.name == "" {
		f.unusable(where, "metadata.name", "is missing")
		return
	}
	f.good = append(f.good, entry{i, where, value})
}

func idOf(kind string, m *metav1.ObjectMeta) id { return id{kind, m.Namespace, m.Name} }
