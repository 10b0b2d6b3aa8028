package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/test/cluster"
)

const (
	namespace = metav1.NamespaceDefault
	endpoints = 25  // of each Service: as many as 500,000 are to 20,000
	most      = 100 // endpoints in a slice, as the controller makes them
	writers   = 32  // requests at the same time
	port      = 8080
)

var zones = []string{"zone-a", "zone-b", "zone-c"}

func zone(n int) string     { return zones[n%len(zones)] }
func nodeName(n int) string { return fmt.Sprintf("node-%04d", n) }
func serviceName(n int) string {
	return fmt.Sprintf("service-%05d", n)
}

// createNodes registers nodes: one in each zone.
func createNodes(ctx context.Context, c *cluster.Cluster) error {
	for n := range zones {
		if err := c.CreateNode(ctx, cluster.Node{Name: nodeName(n), Labels: map[string]string{corev1.LabelTopologyZone: zone(n)}}); err != nil {
			return err
		}
	}
	return nil
}

// fill makes Services, each with one slice of endpoints, from the first number on.
func fill(ctx context.Context, client kubernetes.Interface, from, to int) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.SetLimit(writers)
	for n := from; n < to; n++ {
		parts.Go(func() error {
			svc, err := client.CoreV1().Services(namespace).Create(ctx, service(serviceName(n)), metav1.CreateOptions{})
			if err != nil {
				return err
			}
			_, err = client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice(svc, n, endpoints), metav1.CreateOptions{})
			return err
		})
	}
	return parts.Wait()
}

// service returns a Service as a chart has it. Its pods are those with the label "app".
func service(name string) *corev1.Service {
	near := corev1.ServiceTrafficDistributionPreferSameZone
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name, "app.kubernetes.io/managed-by": "Helm"}},
		Spec: corev1.ServiceSpec{
			Selector:            map[string]string{"app": name},
			Ports:               []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}},
			TrafficDistribution: &near,
		},
	}
}

// slice returns a slice as the controller makes it, with so many endpoints.
func slice(svc *corev1.Service, n, count int) *discoveryv1.EndpointSlice {
	name, number, tcp, yes := "http", int32(port), corev1.ProtocolTCP, true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: svc.Name + "-" + rand.String(5), GenerateName: svc.Name + "-",
			Labels: map[string]string{
				discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
				"app": svc.Name, "app.kubernetes.io/managed-by": "Helm",
			},
			Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: triggerTime()},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: svc.UID, Controller: &yes, BlockOwnerDeletion: &yes}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &tcp}},
	}
	pods := svc.Name + "-" + rand.String(10) + "-"
	for i := range count {
		s.Endpoints = append(s.Endpoints, endpoint(pods+rand.String(5), n*most+i))
	}
	return s
}

// endpoint returns the at-th endpoint, of a pod.
func endpoint(pod string, at int) discoveryv1.Endpoint {
	ready, serving, terminating, node, zone := true, true, false, nodeName(at%5000), zone(at)
	return discoveryv1.Endpoint{
		Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 128+at>>16, at>>8&0xff, at&0xff)},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		NodeName:   &node,
		Zone:       &zone,
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod, UID: types.UID(uuid.NewUUID())},
		Hints:      &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}},
	}
}

func triggerTime() string { return time.Now().UTC().Format(time.RFC3339) }

// change lets one endpoint of a slice be not ready, or ready again, so many times: one event each.
func change(ctx context.Context, client kubernetes.Interface, name string, times int) error {
	slices := client.DiscoveryV1().EndpointSlices(namespace)
	s, err := slices.Get(ctx, name, metav1.GetOptions{})
	for i := 0; i < times && err == nil; i++ {
		e := &s.Endpoints[i%len(s.Endpoints)]
		ready := !*e.Conditions.Ready
		e.Conditions.Ready = &ready
		s.Annotations[corev1.EndpointsLastChangeTriggerTime] = triggerTime()
		s, err = slices.Update(ctx, s, metav1.UpdateOptions{})
	}
	return err
}
