package kube

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// awaitAll waits until the initial objects were read. It reports false if the context is done before.
func (s *Source) awaitAll(ctx context.Context, r registrations) bool {
	return s.awaitInformers(ctx, r) && s.awaitNode(ctx)
}

func (s *Source) awaitInformers(ctx context.Context, r registrations) bool {
	defer s.logWaits(ctx)()
	for _, reg := range []cache.ResourceEventHandlerRegistration{r.services, r.slices, r.nodes} {
		if !await(ctx, reg.HasSyncedChecker().Done(), nil) {
			return false
		}
	}
	return await(ctx, r.cidrs.HasSyncedChecker().Done(), s.noCIDRs.done())
}

// awaitNode waits for the Node object for a limited time: without it, the node has no zone, and load balancers do not
// use it.
func (s *Source) awaitNode(ctx context.Context) bool {
	select {
	case <-s.nodeSeen.done():
		return true
	default:
	}
	timer := time.NewTimer(s.cfg.NodeWait)
	defer timer.Stop()
	select {
	case <-s.nodeSeen.done():
	case <-timer.C:
		klog.FromContext(ctx).Info("The API server has no such Node; continuing without its zone", "node", s.cfg.NodeName)
	case <-ctx.Done():
		return false
	}
	return true
}

// await waits until either channel is closed. It reports false if the context is done before.
func await(ctx context.Context, a, b <-chan struct{}) bool {
	select {
	case <-a:
	case <-b:
	case <-ctx.Done():
		return false
	}
	return true
}

// logWaits logs at intervals why the initial read takes so long, until stop is called. Informers retry silently if
// nobody listens at the API server's address.
func (s *Source) logWaits(ctx context.Context) (stop func()) {
	if s.cfg.WaitLogInterval == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(s.cfg.WaitLogInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.logWaitOnce(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// logWaitOnce sends a request for Services and logs its error.
func (s *Source) logWaitOnce(ctx context.Context) {
	_, err := s.cfg.Client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if ctx.Err() == nil {
		klog.FromContext(ctx).Info("Waiting for the API server; this node is not changed before everything is read", "reason", err)
	}
}
