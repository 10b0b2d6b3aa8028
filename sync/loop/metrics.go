package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the loop's metrics. Those whose names begin with kubeproxy_ are kube-proxy's, with its meaning and buckets
// (pkg/proxy/metrics); the others say what the loop costs and what is not as it should be.
type Metrics struct {
	syncDuration    prometheus.Histogram
	lastSync        prometheus.Gauge
	programming     prometheus.Histogram
	noLocal         *prometheus.GaugeVec
	operations      *prometheus.CounterVec
	failures        *prometheus.CounterVec
	reads           *prometheus.CounterVec
	drift           *prometheus.CounterVec
	pending         *prometheus.GaugeVec
	services        prometheus.Gauge
	problems        prometheus.Gauge
	draining        prometheus.Gauge
	internal, other int

	beat func()
}

// counters are the metrics of one layer.
type counters struct {
	operations, failures, reads prometheus.Counter

	beat func() // tells that the loop goes on
}

// asked notes that the kernel is asked for so many changes.
func (c *counters) asked(changes int) {
	c.operations.Add(float64(changes))
	c.beat()
}

// NewMetrics returns the metrics, registered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	layer := []string{"layer"}
	m := &Metrics{
		syncDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "Time of one attempt to make the kernel equal to what is wanted.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
		lastSync: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Help: "When the last attempt ended."}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_network_programming_duration_seconds", Help: "Time from a change of endpoints until it is programmed.",
			Buckets: programmingBuckets()}),
		noLocal: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
			Help: "Services with a Local traffic policy and endpoints, but none on this node."}, []string{"traffic_policy"}),
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
		services: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_ipvs_services", Help: "Services that are served."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_service_problems", Help: "Fields of Services and EndpointSlices that could not be used, and frontends that another Service has, without what is only noted."}),
		beat: func() {},
		draining: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_draining_real_servers", Help: "Real servers that get no new connections and still have some."}),
	}
	r.MustRegister(m.syncDuration, m.lastSync, m.programming, m.noLocal, m.operations, m.failures, m.reads, m.drift, m.pending,
		m.services, m.problems, m.draining)
	m.countUnserved()
	return m
}

// programmingBuckets are kube-proxy's: every second for a minute, then coarser up to five minutes.
func programmingBuckets() []float64 {
	out := append([]float64{0.25, 0.5}, prometheus.LinearBuckets(1, 1, 59)...)
	out = append(out, prometheus.LinearBuckets(60, 5, 12)...)
	return append(out, prometheus.LinearBuckets(120, 30, 7)...)
}

func (m *Metrics) layer(name string) *counters {
	return &counters{
		operations: m.operations.WithLabelValues(name),
		failures:   m.failures.WithLabelValues(name),
		reads:      m.reads.WithLabelValues(name),
		beat:       func() { m.beat() },
	}
}

// synced notes the end of an attempt that began at start.
func (m *Metrics) synced(start time.Time) {
	m.syncDuration.Observe(time.Since(start).Seconds())
	m.lastSync.SetToCurrentTime()
}

// found notes what is left to do after a turn.
func (m *Metrics) found(layers []layer) {
	for _, l := range layers {
		if r, ok := l.(*realsLayer); ok {
			m.draining.Set(float64(len(r.draining)))
		}
		m.pending.WithLabelValues(l.name()).Set(float64(l.pending()))
	}
}

// programmed notes that changes of these times are in the kernel.
func (m *Metrics) programmed(changes []time.Time) {
	for _, at := range changes {
		m.programming.Observe(time.Since(at).Seconds())
	}
}

// swapped notes that one state of a Service took the place of another.
func (m *Metrics) swapped(old, now *service) {
	for _, x := range []struct {
		s    *service
		sign int
	}{{old, -1}, {now, 1}} {
		if x.s == nil {
			continue
		}
		m.services.Add(float64(x.sign))
		if x.s.fragment.Unserved.Internal {
			m.internal += x.sign
		}
		if x.s.fragment.Unserved.External {
			m.other += x.sign
		}
	}
	m.countUnserved()
}

func (m *Metrics) countUnserved() {
	m.noLocal.WithLabelValues("internal").Set(float64(m.internal))
	m.noLocal.WithLabelValues("external").Set(float64(m.other))
}
