package kube

import (
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/source/sourcetest"
)

var _ source.Source = (*Source)(nil)

func TestConformance(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T, content []sourcetest.Object, h source.Handler) sourcetest.Subject {
		c := cluster{t, fake.NewClientset()}
		for _, o := range content {
			c.put(o)
		}
		return sourcetest.Subject{
			Source: runFor(t, Config{Client: c.Clientset, NodeName: "n1"}, h),
			Put:    c.put,
			Remove: func(name plan.Name) {
				for _, es := range c.slicesOf(name) {
					c.removeSlice(es.Name)
				}
				c.remove(name.Name)
			},
		}
	})
}

// put creates or updates a Service, and makes its slices these.
func (c cluster) put(o sourcetest.Object) {
	svc := o.Service
	name := plan.Name{Namespace: svc.Namespace, Name: svc.Name}
	if _, err := c.CoreV1().Services(svc.Namespace).Get(c.Context(), svc.Name, metav1.GetOptions{}); err != nil {
		c.create(svc)
	} else {
		c.update(svc)
	}
	had := c.slicesOf(name)
	is := func(es *discoveryv1.EndpointSlice) func(discoveryv1.EndpointSlice) bool {
		return func(o discoveryv1.EndpointSlice) bool { return o.Name == es.Name }
	}
	for _, es := range o.Slices {
		if slices.ContainsFunc(had, is(es)) {
			c.updateSlice(es)
		} else {
			c.createSlice(es)
		}
		had = slices.DeleteFunc(had, is(es))
	}
	for _, es := range had {
		c.removeSlice(es.Name)
	}
}

func (c cluster) slicesOf(name plan.Name) []discoveryv1.EndpointSlice {
	list, err := c.DiscoveryV1().EndpointSlices(name.Namespace).List(c.Context(),
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name.Name})
	c.done(err)
	return list.Items
}
