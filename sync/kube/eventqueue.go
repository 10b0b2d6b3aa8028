package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// How Events are posted. What is wrong with a Service all nodes find within a second, and most of them are told then that the
// Event is there already. 5,000 nodes ask some 170 times a second for half a minute, and 500 times a second after that at
// the very most.
const (
	mostWaiting = 100              // Events at a time
	jitter      = 30 * time.Second // the longest that an Event waits to have company
	postBurst   = 10               // how many are posted at once,
	postRate    = 0.1              // and how many a second on average
	postTimeout = 30 * time.Second // for an answer
)

// What becomes of an Event.
const (
	created  = "created"
	existing = "existing" // somebody had created it
	refused  = "refused"  // by the API server
	dropped  = "dropped"  // because too many waited
)

// A poster posts Events, in no order: where there are more than can be posted, nodes post different ones.
type poster struct {
	client typed.EventsV1Interface // nil: nothing is posted
	count  *prometheus.CounterVec
	wake   chan struct{} // something waits

	mu      sync.Mutex
	waiting map[string]*eventsv1.Event // by namespace and name: the same twice is one
}

func newPoster(client typed.EventsV1Interface) *poster {
	p := &poster{
		client: client, wake: make(chan struct{}, 1), waiting: map[string]*eventsv1.Event{},
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_events_total",
			Help: "Events on Services that were created, existing already, refused by the API server, or dropped because too many waited.",
		}, []string{"result"}),
	}
	for _, result := range []string{created, existing, refused, dropped} {
		p.count.WithLabelValues(result) // there from the start
	}
	return p
}

// add has an Event posted. Where too many wait, one of them goes.
func (p *poster) add(e *eventsv1.Event) {
	if p.client == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := e.Namespace + "/" + e.Name
	if _, waits := p.waiting[key]; waits {
		return
	}
	for other := range p.waiting {
		if len(p.waiting) < mostWaiting {
			break
		}
		delete(p.waiting, other)
		p.count.WithLabelValues(dropped).Inc()
	}
	p.waiting[key] = e
	select {
	case p.wake <- struct{}{}:
	default: // a wake-up is already waiting
	}
}

// take returns an Event that waits, or nil, and waits for it no more.
func (p *poster) take() *eventsv1.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.waiting {
		delete(p.waiting, key)
		return e
	}
	return nil
}

// run posts what is added until the context is done.
func (p *poster) run(ctx context.Context) {
	pace := flowcontrol.NewTokenBucketRateLimiter(postRate, postBurst)
	for p.pause(ctx) {
		for e := p.take(); e != nil; e = p.take() {
			if pace.Wait(ctx) != nil {
				return
			}
			if !p.post(ctx, e) {
				p.add(e)
				break
			}
		}
	}
}

// pause waits until there is something to post, and then for a random while. It is false when the context is done.
func (p *poster) pause(ctx context.Context) bool {
	select {
	case <-p.wake:
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(rand.N(jitter)):
		return true
	case <-ctx.Done():
		return false
	}
}

// post posts an Event, and says whether the API server has answered.
func (p *poster) post(ctx context.Context, e *eventsv1.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	_, err := p.client.Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	var status apierrors.APIStatus
	switch {
	case err == nil:
		p.count.WithLabelValues(created).Inc()
	case apierrors.IsAlreadyExists(err):
		p.count.WithLabelValues(existing).Inc()
	case errors.As(err, &status):
		p.count.WithLabelValues(refused).Inc()
		klog.FromContext(ctx).Info("An Event was refused", "service", klog.KRef(e.Regarding.Namespace, e.Regarding.Name),
			"reason", e.Reason, "note", e.Note, "err", err)
	default:
		return false
	}
	return true
}
