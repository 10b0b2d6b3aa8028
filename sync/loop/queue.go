package loop

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/sync/plan"
)

// A Queue collects changes from sources and watchers. Its size is bounded by the number of Services: one that changes a
// thousand times before the loop takes it is one entry. Its methods may be called from any goroutine.
type Queue struct {
	// Queued, if set before use, is called for every change that can be programmed: from Synced on. It is called again for
	// changes that take longer than one sync pass.
	Queued func()

	// Serial, if set before use, makes Go do its work at once, in the loop's goroutine: everything happens in the same order in
	// each run.
	Serial bool

	mu       sync.Mutex
	services map[plan.Name]struct{}
	what     Changed
	synced   bool // the sources have listed everything
	wake     chan struct{}
	jobs     sync.WaitGroup // work in the background

	serviceChanges, endpointChanges changes
}

// changes are the metrics of the changes of one kind of objects.
type changes struct {
	total   prometheus.Counter
	pending prometheus.Gauge
}

// newChanges returns kube-proxy's metrics of a kind.
func newChanges(kind string) changes {
	return changes{
		total: prometheus.NewCounter(prometheus.CounterOpts{
			Name: fmt.Sprintf("kubeproxy_sync_proxy_rules_%s_changes_total", kind), Help: fmt.Sprintf("[ALPHA] Changes of %ss seen so far.", kind)}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: fmt.Sprintf("kubeproxy_sync_proxy_rules_%s_changes_pending", kind), Help: fmt.Sprintf("[ALPHA] Changes of %ss that wait for the next attempt to program them.", kind)}),
	}
}

func (c changes) add() {
	c.total.Inc()
	c.pending.Inc()
}

// Changed is a set of changes beside those of single Services.
type Changed uint8

// The changes.
const (
	Synced    Changed = 1 << iota // the sources have listed everything; nothing is done before
	Node                          // the Node object or the service CIDRs: every Service is planned again
	Addresses                     // the node's own addresses: Services that use them are planned again
	Routes                        // an external change of the link, its addresses, routes or rules: they are read again
	Kernel                        // anything in the kernel may have changed: all of it is read again
)

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{
		services: map[plan.Name]struct{}{}, wake: make(chan struct{}, 1),
		serviceChanges: newChanges("service"), endpointChanges: newChanges("endpoint"),
	}
}

// Register registers the metrics of changes.
func (q *Queue) Register(r prometheus.Registerer) {
	for _, c := range []changes{q.serviceChanges, q.endpointChanges} {
		r.MustRegister(c.total, c.pending)
	}
}

// ServiceChanged notes that a Service was added, changed or deleted.
func (q *Queue) ServiceChanged(name plan.Name) { q.changed(q.serviceChanges, name) }

// EndpointsChanged notes that a slice of a Service was added, changed or deleted.
func (q *Queue) EndpointsChanged(name plan.Name) { q.changed(q.endpointChanges, name) }

// ServicesChanged is ServiceChanged for several Services, which are planned together.
func (q *Queue) ServicesChanged(names ...plan.Name) { q.changed(q.serviceChanges, names...) }

func (q *Queue) changed(kind changes, names ...plan.Name) {
	q.mu.Lock()
	for range names {
		kind.add()
	}
	for _, name := range names {
		q.services[name] = struct{}{}
	}
	synced := q.synced
	q.mu.Unlock()
	q.signal(synced)
}

// Note notes changes beside those of single Services.
func (q *Queue) Note(what Changed) {
	q.mu.Lock()
	q.what |= what
	q.synced = q.synced || what&Synced != 0
	synced := q.synced
	q.mu.Unlock()
	q.signal(synced)
}

// Go runs work of a data plane in the background. The loop syncs when the work has ended, and does not end before it.
func (q *Queue) Go(work func()) {
	if q.Serial {
		work()
		q.Note(0)
		return
	}
	q.jobs.Go(func() {
		work()
		q.Note(0)
	})
}

// NodeChanged notes that the Node object or the service CIDRs changed.
func (q *Queue) NodeChanged() { q.Note(Node) }

// Synced notes that the sources have listed everything.
func (q *Queue) Synced() { q.Note(Synced) }

// Len returns the number of Services that wait to be planned.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.services)
}

// take empties the queue.
func (q *Queue) take() (map[plan.Name]struct{}, Changed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	services, what := q.services, q.what
	q.services, q.what = map[plan.Name]struct{}{}, 0
	q.serviceChanges.pending.Set(0)
	q.endpointChanges.pending.Set(0)
	return services, what
}

// signal wakes the loop. A change that waits for the sources does not wait for us, and is no reason to be unhealthy.
func (q *Queue) signal(synced bool) {
	if synced {
		q.waits()
	}
	select {
	case q.wake <- struct{}{}:
	default: // a wake-up is already waiting
	}
}

// waits notes that a change waits to be programmed.
func (q *Queue) waits() {
	if q.Queued != nil {
		q.Queued()
	}
}
