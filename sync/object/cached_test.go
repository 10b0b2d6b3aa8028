package object_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-ipvs/sync/object"
)

// full returns the metadata of a cluster's object.
func full(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "5f0d5c4e-0b5c-4f6e-9d0e-0123456789ab", ResourceVersion: "123456789",
		CreationTimestamp: metav1.NewTime(created),
		Labels:            map[string]string{discoveryv1.LabelServiceName: "web", "helm.sh/chart": "web-1.2.3"},
		Annotations:       map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"},
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		OwnerReferences:   []metav1.OwnerReference{{Name: "web"}},
		Finalizers:        []string{"example.com/x"},
	}
}

func TestCachedMetadata(t *testing.T) {
	svc := web(func(s *corev1.Service) { s.ObjectMeta = full("default", "web") })
	es := sliceOf(at("10.1.0.1"))
	es.ObjectMeta = full("default", "web-1")
	for name, c := range map[string]struct {
		cached metav1.Object
		want   metav1.ObjectMeta
	}{
		"Service":       {object.CacheService(svc), full("default", "web")},
		"headless":      {object.CacheService(&corev1.Service{ObjectMeta: full("default", "web")}), full("default", "web")},
		"EndpointSlice": {object.CacheSlice(es), full("default", "web-1")},
		"Node":          {object.CacheNode(&corev1.Node{ObjectMeta: full("", "n1")}), full("", "n1")},
		"ServiceCIDR":   {object.CacheServiceCIDR(&networkingv1.ServiceCIDR{ObjectMeta: full("", "kubernetes")}), full("", "kubernetes")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := meta.Accessor(c.cached)
			if err != nil {
				t.Fatal(err)
			}
			want := metav1.ObjectMeta{Namespace: c.want.Namespace, Name: c.want.Name, UID: c.want.UID,
				ResourceVersion: c.want.ResourceVersion, CreationTimestamp: c.want.CreationTimestamp}
			if diff := cmp.Diff(&want, got.(interface{ GetObjectMeta() metav1.Object }).GetObjectMeta()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestCachedValue(t *testing.T) {
	svc := web(func(*corev1.Service) {})
	want, _ := object.Service(svc)
	if got := object.CacheService(svc); !got.Used || !object.SameService(want, got.Value) {
		t.Errorf("got %+v", got)
	}
	slice, _ := object.Slice(sliceOf(at("10.1.0.1")))
	if got := object.CacheSlice(sliceOf(at("10.1.0.1"))); !got.Used || !object.SameSlice(slice, got.Value) {
		t.Errorf("got %+v", got)
	}
	if got := object.CacheService(web(func(s *corev1.Service) { s.Spec.ClusterIP = "None" })); got.Used {
		t.Errorf("got %+v", got)
	}
	if got := object.CacheSlice(&discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}); got.Used || len(got.Value.Problems) != 1 {
		t.Errorf("got %+v", got)
	}
}

// TestCachedSize bounds what a watch keeps in memory, at the size of a large cluster: 10,000 Services of two ports with one
// slice of ten endpoints each, on 500 nodes in three zones.
func TestCachedSize(t *testing.T) {
	const services, endpoints, nodes = 10_000, 10, 500
	kept := make([]any, 0, 2*services)

	size := grown(func() {
		for i := range services {
			kept = append(kept, object.CacheService(manyService(i)))
		}
	})
	perService := float64(size) / services

	size = grown(func() {
		for i := range services {
			kept = append(kept, object.CacheSlice(manySlice(i, endpoints, nodes)))
		}
	})
	perEndpoint := float64(size) / (services * endpoints)
	t.Logf("%.0f bytes a Service, %.0f bytes an endpoint with its share of the slice", perService, perEndpoint)
	if perService > 1100 {
		t.Errorf("%.0f bytes a Service, more than 1100", perService)
	}
	if perEndpoint > 190 {
		t.Errorf("%.0f bytes an endpoint, more than 190", perEndpoint)
	}
	runtime.KeepAlive(kept)
}

// TestHugeObjects has objects several times as large as etcd takes. Each is reduced where all others of its kind are received, so none may
// hold these up: what is searched for among all before takes minutes with the race detector.
func TestHugeObjects(t *testing.T) {
	const many, limit = 400_000, time.Minute
	ips := web(func(*corev1.Service) {})
	ranges := web(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	es := sliceOf(at("10.1.0.1"))
	es.Ports = nil
	for i := range many {
		ip := fmt.Sprintf("11.%d.%d.%d", i>>16, i>>8&255, i&255)
		ips.Spec.ExternalIPs = append(ips.Spec.ExternalIPs, ip)
		ranges.Spec.LoadBalancerSourceRanges = append(ranges.Spec.LoadBalancerSourceRanges, ip+"/32")
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: ptr.To(fmt.Sprintf("port-%d", i)), Port: ptr.To[int32](8080)})
	}
	ports := web(func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports = corev1.ServiceTypeNodePort, nil })
	for i := range int32(3 * 65_535) {
		proto, n := []corev1.Protocol{"TCP", "UDP", "SCTP"}[i%3], i/3+1
		ports.Spec.Ports = append(ports.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("port-%d", i), Protocol: proto, Port: n, NodePort: n})
	}
	for _, tt := range []struct {
		name   string
		reduce func() int
		want   int
	}{
		{"external IPs", func() int { return len(object.CacheService(ips).Value.ExternalIPs) }, many},
		{"source ranges", func() int { return len(object.CacheService(ranges).Value.SourceRanges) }, many},
		{"ports", func() int { return len(object.CacheService(ports).Value.Ports) }, 3 * 65_535},
		{"ports of a slice", func() int { return len(object.CacheSlice(es).Value.Ports) }, many},
	} {
		begin := time.Now()
		got := tt.reduce()
		if took := time.Since(begin); got != tt.want || took > limit {
			t.Errorf("%s: %d of %d, in %v", tt.name, got, tt.want, took)
		}
	}
}

func BenchmarkCacheService(b *testing.B) {
	for _, ports := range []int{1, 5, 50} {
		b.Run(fmt.Sprintf("%d ports", ports), func(b *testing.B) {
			svc := manyService(0)
			svc.Spec.Type, svc.Spec.Ports = corev1.ServiceTypeNodePort, nil
			for i := range ports {
				port := corev1.ServicePort{Name: fmt.Sprintf("port-%d", i), Port: int32(8000 + i), NodePort: int32(30000 + i)}
				svc.Spec.Ports = append(svc.Spec.Ports, port)
			}
			b.ReportAllocs()
			for b.Loop() {
				object.CacheService(svc)
			}
		})
	}
}

func BenchmarkCacheSlice(b *testing.B) {
	for _, endpoints := range []int{10, 100} {
		b.Run(fmt.Sprintf("%d endpoints", endpoints), func(b *testing.B) {
			es := manySlice(0, endpoints, 500)
			b.ReportAllocs()
			for b.Loop() {
				object.CacheSlice(es)
			}
		})
	}
}

// grown returns the growth of the live heap, in bytes.
func grown(add func()) uint64 {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // frees objects that the first one finalised
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	add()
	return live() - before
}

func manyService(i int) *corev1.Service {
	svc := web(func(*corev1.Service) {})
	svc.ObjectMeta = full(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("service-%d", i))
	svc.Spec.ClusterIPs = []string{fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250)}
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("metr", "ics"), Port: 9090})
	return svc
}

func manySlice(i, endpoints, nodes int) *discoveryv1.EndpointSlice {
	es := sliceOf()
	es.ObjectMeta = full(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("service-%d-abcde", i))
	es.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("service-%d", i)
	for e := range endpoints {
		n := i*endpoints + e
		in := at(fmt.Sprintf("10.%d.%d.%d", 128+n/62500, n/250%250, 1+n%250))
		in.NodeName = ptr.To(fmt.Sprintf("node-%d.eu-central-1.compute.internal", n%nodes))
		in.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("eu-central-1%c", 'a'+n%3)}}}
		es.Endpoints = append(es.Endpoints, in)
	}
	return es
}
