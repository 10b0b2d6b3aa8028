package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// cleanup is the finalizer by which a Service outlives its deletion until its load balancer is gone.
const cleanup = "service.kubernetes.io/load-balancer-cleanup"

// A balancer is a cloud's load balancer, of the kind that leaves packets as they are: it gives each Service of type
// LoadBalancer an IPv4 address, and routes that address to the nodes; with externalTrafficPolicy Local, to those whose health
// check reports endpoints. Each connection goes to any of these, but with sessionAffinity ClientIP to one of them, since the clients outside
// have one address. It reads all Services each time, as there are few.
type balancer struct {
	client *kubernetes.Clientset
	health http.Client
	given  map[types.UID]*frontend
}

// A frontend is the address of one Service.
type frontend struct {
	address  netip.Addr
	told     bool         // the Service's status has it; it is written once, as a test writes over it
	gateways []netip.Addr // where its route leads; nil before the first route
}

// firstAddress is the first that is given.
var firstAddress = netip.MustParseAddr("203.0.113.1")

func newBalancer(client *kubernetes.Clientset) *balancer {
	return &balancer{client: client, health: http.Client{Timeout: time.Second}, given: map[types.UID]*frontend{}}
}

// run brings everything up to date, again and again.
func (b *balancer) run(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		if err := b.once(ctx); err != nil {
			log.Print(err)
		}
		time.Sleep(pause)
	}
}

func (b *balancer) once(ctx context.Context) error {
	services, err := b.client.CoreV1().Services("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	nodes, err := b.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	live := map[types.UID]bool{}
	var errs []error
	for i := range services.Items {
		s := &services.Items[i]
		live[s.UID] = true
		switch {
		case s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil:
			err = b.serve(ctx, s, ready(nodes.Items))
		case slices.Contains(s.Finalizers, cleanup):
			err = b.release(ctx, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("load balancer of %s/%s: %w", s.Namespace, s.Name, err))
		}
	}
	for uid, f := range b.given {
		if !live[uid] {
			errs = append(errs, routeTo(f.address, nil))
			delete(b.given, uid)
		}
	}
	return errors.Join(errs...)
}

// serve gives the Service an address if it has none, and routes it.
func (b *balancer) serve(ctx context.Context, s *corev1.Service, nodes []netip.Addr) (err error) {
	f := b.given[s.UID]
	if f == nil {
		f = &frontend{address: b.free()}
		b.given[s.UID] = f
	}
	api := b.client.CoreV1().Services(s.Namespace)
	if !slices.Contains(s.Finalizers, cleanup) {
		s.Finalizers = append(s.Finalizers, cleanup)
		if s, err = api.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if !f.told {
		mode := corev1.LoadBalancerIPModeVIP
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: f.address.String(), IPMode: &mode}}
		if _, err := api.UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
			return err
		}
		f.told = true
		log.Printf("Service %s/%s has %s", s.Namespace, s.Name, f.address)
	}
	gateways := []netip.Addr{}
	for _, n := range nodes {
		if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || b.healthy(n, s.Spec.HealthCheckNodePort) {
			gateways = append(gateways, n)
		}
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && len(gateways) > 1 {
		gateways = gateways[:1]
	}
	if f.gateways != nil && slices.Equal(f.gateways, gateways) {
		return nil
	}
	if err := routeTo(f.address, gateways); err != nil {
		return err
	}
	log.Printf("%s leads to %v", f.address, gateways)
	f.gateways = gateways
	return nil
}

// free returns the first address that no Service has.
func (b *balancer) free() netip.Addr {
	used := map[netip.Addr]bool{}
	for _, f := range b.given {
		used[f.address] = true
	}
	a := firstAddress
	for used[a] {
		a = a.Next()
	}
	return a
}

// release takes the address back and lets the Service go.
func (b *balancer) release(ctx context.Context, s *corev1.Service) (err error) {
	if f := b.given[s.UID]; f != nil {
		if err := routeTo(f.address, nil); err != nil {
			return err
		}
		delete(b.given, s.UID)
	}
	api := b.client.CoreV1().Services(s.Namespace)
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		if s, err = api.UpdateStatus(ctx, s, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	s.Finalizers = slices.DeleteFunc(s.Finalizers, func(f string) bool { return f == cleanup })
	_, err = api.Update(ctx, s, metav1.UpdateOptions{})
	return err
}

// healthy reports whether the node's health check says that it has endpoints.
func (b *balancer) healthy(node netip.Addr, port int32) bool {
	r, err := b.health.Get(fmt.Sprintf("http://%s:%d/healthz", node, port))
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// ready returns the internal IPv4 addresses of the nodes that are ready.
func ready(nodes []corev1.Node) []netip.Addr {
	var list []netip.Addr
	for _, n := range nodes {
		if !isReady(n) {
			continue
		}
		for _, status := range n.Status.Addresses {
			if a, err := netip.ParseAddr(status.Address); err == nil && status.Type == corev1.NodeInternalIP && a.Is4() {
				list = append(list, a)
			}
		}
	}
	return list
}

func isReady(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
