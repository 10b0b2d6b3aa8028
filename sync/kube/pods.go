package kube

import (
	"context"
	"net/netip"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kube-ipvs/sync/plan"
)

// podsTimeout bounds the wait for the names of pods: without an API server they are left out.
const podsTimeout = 3 * time.Second

// Pods returns the names of a Service's pods by their addresses, as its slices have them. The cache does not: they would cost
// memory for each endpoint, and only people read them. So it asks the API server for the slices of this Service. Without an
// answer there are none.
func (s *Source) Pods(ctx context.Context, name plan.Name) map[netip.Addr]string {
	ctx, cancel := context.WithTimeout(ctx, podsTimeout)
	defer cancel()
	list, err := s.cfg.Client.DiscoveryV1().EndpointSlices(name.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector:   discoveryv1.LabelServiceName + "=" + name.Name,
		ResourceVersion: "0", // the API server's own cache will do
	})
	if err != nil {
		return nil
	}
	out := map[netip.Addr]string{}
	for i := range list.Items {
		for _, e := range list.Items[i].Endpoints {
			if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
				continue
			}
			for _, text := range e.Addresses {
				if a, err := netip.ParseAddr(text); err == nil {
					out[a.Unmap()] = e.TargetRef.Name
				}
			}
		}
	}
	return out
}
