package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// byService is the index of slices by the "namespace/name" of their Service. The informers have no other index, and
// never resync: the proxy compares their content with its plan.
const byService = "service"

func serviceInformer(client kubernetes.Interface) cache.SharedIndexInformer {
	return newInformer(client, client.CoreV1().Services(metav1.NamespaceAll), &corev1.Service{}, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = "!" + object.ProxyNameLabel
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone).String()
	})
}

func sliceInformer(client kubernetes.Interface) cache.SharedIndexInformer {
	index := cache.Indexers{byService: func(obj any) ([]string, error) {
		if c := obj.(*object.Cached[plan.Slice]); c.Used {
			return []string{c.Value.Service.String()}, nil
		}
		return nil, nil
	}}
	// The slice controller copies the Service's labels, so another proxy's slices can be left out too.
	return newInformer(client, client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll), &discoveryv1.EndpointSlice{}, index, func(o *metav1.ListOptions) {
		o.LabelSelector = "!" + corev1.IsHeadlessService + ",!" + object.ProxyNameLabel
	})
}

func nodeInformer(client kubernetes.Interface, name string) cache.SharedIndexInformer {
	return newInformer(client, client.CoreV1().Nodes(), &corev1.Node{}, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	})
}

func cidrInformer(client kubernetes.Interface) cache.SharedIndexInformer {
	return newInformer(client, client.NetworkingV1().ServiceCIDRs(), &networkingv1.ServiceCIDR{}, cache.Indexers{}, func(*metav1.ListOptions) {})
}

// The transforms reduce each object before it is cached. Watch lists call them twice on the same object (kubernetes
// #131799), so they pass their own results through.
func transformService(obj any) (any, error) {
	if svc, ok := obj.(*corev1.Service); ok {
		return object.CacheService(svc), nil
	}
	return obj, nil
}

func transformSlice(obj any) (any, error) {
	if es, ok := obj.(*discoveryv1.EndpointSlice); ok {
		return object.CacheSlice(es), nil
	}
	return obj, nil
}

func transformNode(obj any) (any, error) {
	if n, ok := obj.(*corev1.Node); ok {
		return object.CacheNode(n), nil
	}
	return obj, nil
}

func transformCIDR(obj any) (any, error) {
	if c, ok := obj.(*networkingv1.ServiceCIDR); ok {
		return object.CacheServiceCIDR(c), nil
	}
	return obj, nil
}
