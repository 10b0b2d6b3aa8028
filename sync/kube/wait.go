package kube

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// awaitAll waits until all that exists was read, and is false if the context is done before.
func (s *Source) awaitAll(ctx context.Context, r registrations) bool {
	return s.awaitInformers(ctx, r) && s.awaitNode(ctx)
}

func (s *Source) awaitInformers(ctx context.Context, r registrations) bool {
	defer s.complain(ctx)()
	for _, reg := range []cache.ResourceEventHandlerRegistration{r.services, r.slices, r.nodes} {
		if !await(ctx, reg.HasSyncedChecker().Done(), nil) {
			return false
		}
	}
	return await(ctx, r.cidrs.HasSyncedChecker().Done(), s.noCIDRs.done())
}

// awaitNode waits for the Node object, but not for ever: without it, the node has no zone and no load balancer uses it.
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
		klog.FromContext(ctx).Info("The API server has no such Node; going on without its zone", "node", s.cfg.NodeName)
	case <-ctx.Done():
		return false
	}
	return true
}

// await waits until either channel is closed, and is false if the context is done before.
func await(ctx context.Context, a, b <-chan struct{}) bool {
	select {
	case <-a:
	case <-b:
	case <-ctx.Done():
		return false
	}
	return true
}

// complain logs from time to time why nothing was read yet, until stop is called. Informers try again without a word if
// nobody listens at the API server's address.
func (s *Source) complain(ctx context.Context) (stop func()) {
	if s.cfg.Patience == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(s.cfg.Patience)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.complainOnce(ctx)
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

// complainOnce asks for what a proxy cannot do without, and logs what comes of it.
func (s *Source) complainOnce(ctx context.Context) {
	_, err := s.cfg.Client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: 1})
	if ctx.Err() == nil {
		klog.FromContext(ctx).Info("Waiting for the API server; nothing is changed on this node before all is read", "reason", err)
	}
}
