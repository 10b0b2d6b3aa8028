package kube

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typed "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// Limits of posting Events. All nodes find a problem of a Service within a second, and all but the first learn from the API
// server that its Event exists. 5,000 nodes send some 170 requests per second for half a minute, and afterwards at most 500
// per second.
const (
	maxQueued   = 100              // Events in the queue
	maxJitter   = 30 * time.Second // longest random delay, in which Events collect
	postBurst   = 10               // Events posted at once,
	postRate    = 0.1              // and per second on average
	postTimeout = 30 * time.Second // for a response
)

// Results of posting an Event.
const (
	created  = "created"
	existing = "existing" // created before, as a rule by another node
	refused  = "refused"  // by the API server
	dropped  = "dropped"  // because the queue was full
)

// An eventQueue posts Events: in turn one on the Node and one on a Service, of which each gets its share of what can be posted and may
// wait, however many Events the others have. Within that they are in no order, so that each node posts different
// ones. It is keyed by the Event's name, so an Event that waits is not added again; the API server rejects those that exist.
type eventQueue struct {
	client typed.EventsV1Interface // nil: Events are discarded
	count  *prometheus.CounterVec
	wake   chan struct{} // the queue is not empty

	mu     sync.Mutex
	queued map[string]*eventsv1.Event // by namespace and name

	tookNodes bool // the last one that was taken was on the Node
}

func newEventQueue(client typed.EventsV1Interface) *eventQueue {
	q := &eventQueue{
		client: client, wake: make(chan struct{}, 1), queued: map[string]*eventsv1.Event{},
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_events_total",
			Help: "Events on Services and the Node by result: created, existing (created before), refused by the API server, dropped from a full queue.",
		}, []string{"result"}),
	}
	for _, result := range []string{created, existing, refused, dropped} {
		q.count.WithLabelValues(result) // exported from the start
	}
	return q
}

// add adds an Event. If the queue is too long, an Event of the Service that has the most is dropped; one on the Node only if there are
// no others.
func (q *eventQueue) add(e *eventsv1.Event) {
	if q.client == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := e.Namespace + "/" + e.Name
	if _, waits := q.queued[key]; waits {
		return
	}
	q.queued[key] = e
	if len(q.queued) > maxQueued {
		victims, services := q.byObject()
		if len(services) > 0 {
			victims = slices.MaxFunc(services, func(a, b []string) int { return cmp.Compare(len(a), len(b)) })
		}
		delete(q.queued, victims[rand.N(len(victims))])
		q.count.WithLabelValues(dropped).Inc()
	}
	select {
	case q.wake <- struct{}{}:
	default: // a wake-up is already waiting
	}
}

// take removes an Event from the queue and returns it, or nil: in turn one on the Node, which may come again and again, and one on a Service.
func (q *eventQueue) take() *eventsv1.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	keys, services := q.byObject()
	if len(services) > 0 && (len(keys) == 0 || q.tookNodes) {
		keys = services[rand.N(len(services))]
	}
	if len(keys) == 0 {
		return nil
	}
	key := keys[rand.N(len(keys))]
	e := q.queued[key]
	delete(q.queued, key)
	q.tookNodes = e.Regarding.Kind == nodeKind
	return e
}

// byObject returns the keys of the Events on the Node, and those of each Service with Events.
func (q *eventQueue) byObject() (node []string, services [][]string) {
	at := map[types.UID]int{}
	for key, e := range q.queued {
		if e.Regarding.Kind == nodeKind {
			node = append(node, key)
			continue
		}
		i, known := at[e.Regarding.UID]
		if !known {
			i = len(services)
			at[e.Regarding.UID], services = i, append(services, nil)
		}
		services[i] = append(services[i], key)
	}
	return node, services
}

// run posts Events until the context is done.
func (q *eventQueue) run(ctx context.Context) {
	pace := flowcontrol.NewTokenBucketRateLimiter(postRate, postBurst)
	for q.pause(ctx) {
		for e := q.take(); e != nil; e = q.take() {
			if pace.Wait(ctx) != nil {
				return
			}
			if !q.post(ctx, e) {
				q.add(e)
				break
			}
		}
	}
}

// pause waits until the queue is not empty, and then for a random delay. It reports false when the context is done.
func (q *eventQueue) pause(ctx context.Context) bool {
	select {
	case <-q.wake:
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(rand.N(maxJitter)):
		return true
	case <-ctx.Done():
		return false
	}
}

// post posts an Event, and reports whether the API server responded.
func (q *eventQueue) post(ctx context.Context, e *eventsv1.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	_, err := q.client.Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	var status apierrors.APIStatus
	switch {
	case err == nil:
		q.count.WithLabelValues(created).Inc()
	case apierrors.IsAlreadyExists(err):
		q.count.WithLabelValues(existing).Inc()
	case errors.As(err, &status):
		q.count.WithLabelValues(refused).Inc()
		klog.FromContext(ctx).Info("The API server refused an Event", "service", klog.KRef(e.Regarding.Namespace, e.Regarding.Name),
			"reason", e.Reason, "note", e.Note, "err", err)
	default:
		return false
	}
	return true
}
