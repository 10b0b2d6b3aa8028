package ipvsmode

import (
	"cmp"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/reconcile"
)

// Metrics are the loop's metrics, and those of this mode's kernel operations.
type Metrics struct {
	*loop.Metrics

	operations *prometheus.CounterVec
	failures   *prometheus.CounterVec
	reads      *prometheus.CounterVec
	objects    *prometheus.GaugeVec
	batches    prometheus.Histogram
	external   *prometheus.CounterVec
	repaired   *prometheus.CounterVec
	draining   prometheus.Gauge

	// kube-proxy's
	ruleFailures *prometheus.CounterVec
	flowDuration *prometheus.HistogramVec
	flowsDeleted *prometheus.CounterVec

	traffic *Traffic // nil: not counted

	states map[string]states // of layers, by name
	asked  bool              // the kernel was asked for changes since the last sync
	beat   func()
}

// states are the numbers of a layer's objects by state.
type states struct{ present, pending, failed prometheus.Gauge }

// NewMetrics returns the metrics, registered.
func NewMetrics(r prometheus.Registerer, cfg loop.MetricsConfig) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		Metrics:    loop.NewMetrics(r, cfg),
		operations: counter("kube_ipvs_layer_operations_total", "Changes requested from the kernel, by layer.", "layer"),
		failures: counter("kube_ipvs_layer_operation_failures_total",
			"Changes that the kernel refused, by layer and error number, such as ENOMEM; other: an error without a number.", "layer", "errno"),
		reads: counter("kube_ipvs_layer_reads_total", "Reads of a whole layer of the kernel's state.", "layer"),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kube_ipvs_layer_objects",
			Help: "Objects of a layer by state: present in the kernel (of a set: its size), pending because they are not as wanted, failed because the kernel refused the change."}, []string{"layer", "state"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kube_ipvs_batch_operations",
			Help: "Changes requested from the kernel at once.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
		external: counter("kube_ipvs_external_changes_total", "External changes of kube-ipvs's objects that were found, by component.", "component"),
		repaired: counter("kube_ipvs_external_changes_repaired_total", "External changes of kube-ipvs's objects that were repaired, by component.", "component"),
		draining: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_draining_real_servers", Help: "Real servers that get no new connections and still have some."}),
		ruleFailures: counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "[ALPHA] Failed attempts to write iptables rules.", "ip_family"),
		flowDuration: cfg.Histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "[ALPHA] Time of one deletion of stale tracked flows.", loop.SyncBuckets()),
		flowsDeleted: counter("kubeproxy_conntrack_reconciler_deleted_entries_total", "[ALPHA] Stale tracked flows that were deleted.", "ip_family"),
		states:       map[string]states{},
		beat:         func() {},
	}
	r.MustRegister(m.operations, m.failures, m.reads, m.objects, m.batches, m.external, m.repaired, m.draining, m.ruleFailures, m.flowDuration, m.flowsDeleted)
	for _, part := range []string{settingsPart, setsPart, serversPart, rulesPart} { // so that an increase from none to one is one
		m.external.WithLabelValues(part)
		m.repaired.WithLabelValues(part)
	}
	for _, f := range cfg.Families {
		m.ruleFailures.WithLabelValues(f.String())
		m.flowDuration.WithLabelValues(f.String())
		m.flowsDeleted.WithLabelValues(f.String())
	}
	return m
}

// CountTraffic registers the metrics of traffic, with at most so many series; 0: none. It must be called before the loop runs. Without a
// table there is nothing to read. The settings tell whether the kernel counts; nil: it does.
func (m *Metrics) CountTraffic(r prometheus.Registerer, table CountingTable, settings sysctl.Kernel, limit int) {
	if limit > 0 {
		m.traffic = newTraffic(r, table, settings, limit)
	}
}

func (m *Metrics) layer(name string) *reconcile.Counters {
	m.failures.WithLabelValues(name, unnumbered) // every layer has one
	m.states[name] = states{
		present: m.objects.WithLabelValues(name, "present"), pending: m.objects.WithLabelValues(name, "pending"), failed: m.objects.WithLabelValues(name, "failed"),
	}
	return &reconcile.Counters{
		Operations: m.operations.WithLabelValues(name),
		Reads:      m.reads.WithLabelValues(name),
		Batch:      m.batches,
		Failed:     func(err error) { m.failures.WithLabelValues(name, errnoOf(err)).Inc() },
		Beat:       func() { m.asked = true; m.beat() },
	}
}

// unnumbered stands for errors without a number.
const unnumbered = "other"

// errnoOf returns the name of the error number in an error, or unnumbered.
func errnoOf(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return cmp.Or(unix.ErrnoName(errno), unnumbered)
	}
	for known, name := range map[error]string{os.ErrNotExist: "ENOENT", os.ErrExist: "EEXIST", os.ErrInvalid: "EINVAL", os.ErrPermission: "EPERM"} {
		if errors.Is(err, known) {
			return name
		}
	}
	return unnumbered
}

// flushed notes an attempt to delete a family's stale flows.
func (m *Metrics) flushed(f inet.Family, start time.Time, deleted int) {
	m.flowDuration.WithLabelValues(f.String()).Observe(time.Since(start).Seconds())
	m.flowsDeleted.WithLabelValues(f.String()).Add(float64(deleted))
}

// found notes the state of all layers after a sync.
func (m *Metrics) found(layers reconcile.Stack, draining int) {
	m.draining.Set(float64(draining))
	for _, l := range layers {
		s := m.states[l.Name()]
		s.present.Set(float64(l.Known()))
		s.pending.Set(float64(l.Pending()))
		s.failed.Set(float64(l.Failing()))
	}
}
