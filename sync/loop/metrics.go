package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the loop's metrics. Names with kubeproxy_ are kube-proxy's, with its meaning and buckets (pkg/proxy/metrics);
// the others count deviations from the desired state.
type Metrics struct {
	syncDuration    prometheus.Histogram
	lastSync        prometheus.Gauge
	programming     prometheus.Histogram
	noLocal         *prometheus.GaugeVec
	services        prometheus.Gauge
	problems        prometheus.Gauge
	internal, other int
}

// NewMetrics returns the metrics, registered.
func NewMetrics(r prometheus.Registerer) *Metrics {
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
		services: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_ipvs_services", Help: "Services that are served."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_service_problems", Help: "Fields of Services and EndpointSlices that could not be used, and frontends that another Service has, without what is only noted."}),
	}
	r.MustRegister(m.syncDuration, m.lastSync, m.programming, m.noLocal, m.services, m.problems)
	m.countUnserved()
	return m
}

// programmingBuckets are kube-proxy's: every second for a minute, then coarser up to five minutes.
func programmingBuckets() []float64 {
	out := append([]float64{0.25, 0.5}, prometheus.LinearBuckets(1, 1, 59)...)
	out = append(out, prometheus.LinearBuckets(60, 5, 12)...)
	return append(out, prometheus.LinearBuckets(120, 30, 7)...)
}

// synced notes the end of a sync that began at start.
func (m *Metrics) synced(start time.Time) {
	m.syncDuration.Observe(time.Since(start).Seconds())
	m.lastSync.SetToCurrentTime()
}

// programmed notes that changes of these times are in the kernel.
func (m *Metrics) programmed(changes []time.Time) {
	for _, at := range changes {
		m.programming.Observe(time.Since(at).Seconds())
	}
}

// swapped notes that a Service's state was replaced.
func (m *Metrics) swapped(old, now *service) {
	for _, x := range []struct {
		s    *service
		sign int
	}{{old, -1}, {now, 1}} {
		if x.s == nil {
			continue
		}
		m.services.Add(float64(x.sign))
		if x.s.desired.Unserved.Internal {
			m.internal += x.sign
		}
		if x.s.desired.Unserved.External {
			m.other += x.sign
		}
	}
	m.countUnserved()
}

func (m *Metrics) countUnserved() {
	m.noLocal.WithLabelValues("internal").Set(float64(m.internal))
	m.noLocal.WithLabelValues("external").Set(float64(m.other))
}
