package ipvsmode

import (
	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/reconcile"
)

// Metrics are the loop's metrics, and those of this mode's kernel operations.
type Metrics struct {
	*loop.Metrics

	operations *prometheus.CounterVec
	failures   *prometheus.CounterVec
	reads      *prometheus.CounterVec
	drift      *prometheus.CounterVec
	pending    *prometheus.GaugeVec
	draining   prometheus.Gauge

	asked bool // the kernel was asked for changes since the last sync
	beat  func()
}

// NewMetrics returns the metrics, registered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	layer := []string{"layer"}
	m := &Metrics{
		Metrics: loop.NewMetrics(r),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_operations_total", Help: "Changes that the kernel was asked for."}, layer),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_operation_failures_total", Help: "Changes that the kernel refused."}, layer),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_reads_total", Help: "Times that a whole layer of the kernel's state was read."}, layer),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_ipvs_drift_total", Help: "Times that somebody else was seen to have changed what is ours, by part."}, []string{"part"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kube_ipvs_pending_objects", Help: "Objects of the kernel that are not as wanted."}, layer),
		draining: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_draining_real_servers", Help: "Real servers that get no new connections and still have some."}),
		beat: func() {},
	}
	r.MustRegister(m.operations, m.failures, m.reads, m.drift, m.pending, m.draining)
	return m
}

func (m *Metrics) layer(name string) *reconcile.Counters {
	return &reconcile.Counters{
		Operations: m.operations.WithLabelValues(name),
		Failures:   m.failures.WithLabelValues(name),
		Reads:      m.reads.WithLabelValues(name),
		Beat:       func() { m.asked = true; m.beat() },
	}
}

// found notes the pending work after a sync.
func (m *Metrics) found(layers reconcile.Stack, draining int) {
	m.draining.Set(float64(draining))
	for _, l := range layers {
		m.pending.WithLabelValues(l.Name()).Set(float64(l.Pending()))
	}
}
