package loop

import (
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// Metrics are the loop's metrics. Names with kubeproxy_ are kube-proxy's, with its labels, meaning and buckets
// (pkg/proxy/metrics); the others count deviations from the desired state.
type Metrics struct {
	families []inet.Family

	syncDuration *prometheus.HistogramVec
	lastSync     *prometheus.GaugeVec
	lastQueued   *prometheus.GaugeVec
	programming  *prometheus.HistogramVec
	noLocal      *prometheus.GaugeVec
	services     prometheus.Gauge
	problems     prometheus.Gauge
	conflicts    prometheus.Gauge

	worked map[inet.Family]struct{} // families with work in the current sync
}

// A MetricsConfig configures Metrics.
type MetricsConfig struct {
	Families []inet.Family // of the node
	Native   bool          // histograms are native ones, too
}

// familyLabel is the name of the label with the address family.
const familyLabel = "ip_family"

// Histogram returns a histogram by address family and, if Native is set, with the resolution that Kubernetes's own
// native histograms have.
func (c MetricsConfig) Histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	if c.Native {
		opts.NativeHistogramBucketFactor, opts.NativeHistogramMaxBucketNumber = 1.1, 160
	}
	return prometheus.NewHistogramVec(opts, []string{familyLabel})
}

// SyncBuckets are kube-proxy's buckets of durations: from 1 ms to 16 s.
func SyncBuckets() []float64 { return prometheus.ExponentialBuckets(0.001, 2, 15) }

// NewMetrics returns the metrics, registered.
func NewMetrics(r prometheus.Registerer, cfg MetricsConfig) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		families: cfg.Families,
		syncDuration: cfg.Histogram("kubeproxy_sync_proxy_rules_duration_seconds",
			"[ALPHA] Time of one attempt to make the kernel equal to what is wanted.", SyncBuckets()),
		lastSync:   gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "[ALPHA] When the last attempt that succeeded, but for single objects, ended.", familyLabel),
		lastQueued: gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "[ALPHA] When an attempt last became due.", familyLabel),
		programming: cfg.Histogram("kubeproxy_network_programming_duration_seconds",
			"[ALPHA] Time from a change of endpoints until it is programmed.", programmingBuckets()),
		noLocal: gauge("kubeproxy_sync_proxy_rules_no_local_endpoints_total",
			"[ALPHA] Services with a Local traffic policy and endpoints, but none on this node.", "traffic_policy", familyLabel),
		services: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_ipvs_services", Help: "Services that are served."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_service_problems", Help: "Fields of Services and EndpointSlices that could not be used, and frontends that another Service has, without what is only noted."}),
		conflicts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_address_conflicts", Help: "Frontends of Services that are served for another Service, or for somebody else."}),
		worked: map[inet.Family]struct{}{},
	}
	r.MustRegister(m.syncDuration, m.lastSync, m.lastQueued, m.programming, m.noLocal, m.services, m.problems, m.conflicts)
	for _, f := range m.families { // so that an increase from none to one is one
		m.syncDuration.WithLabelValues(f.String())
		m.programming.WithLabelValues(f.String())
		m.countUnserved(f, plan.Unserved{}, 0)
	}
	return m
}

// programmingBuckets are kube-proxy's: every second for a minute, then coarser up to five minutes. The first is 0, which is an accident
// there, and counts changes of clocks that are ahead.
func programmingBuckets() []float64 {
	out := append([]float64{0, 0.25, 0.5}, prometheus.LinearBuckets(1, 1, 59)...)
	out = append(out, prometheus.LinearBuckets(60, 5, 12)...)
	return append(out, prometheus.LinearBuckets(120, 30, 7)...)
}

// Queued notes that a sync is due. It may be called from any goroutine.
func (m *Metrics) Queued() {
	for _, f := range m.families {
		m.lastQueued.WithLabelValues(f.String()).SetToCurrentTime()
	}
}

// works notes that the current sync has work in a family.
func (m *Metrics) works(f inet.Family) { m.worked[f] = struct{}{} }

// worksInAll notes that the current sync has work in all families.
func (m *Metrics) worksInAll() {
	for _, f := range m.families {
		m.works(f)
	}
}

// synced notes the end of a sync that began at start, and its error. Kube-proxy syncs family by family: each that had work counts.
func (m *Metrics) synced(start time.Time, err error) {
	if len(m.worked) == 0 {
		m.worksInAll()
	}
	for _, f := range m.families {
		if _, worked := m.worked[f]; !worked {
			continue
		}
		m.syncDuration.WithLabelValues(f.String()).Observe(time.Since(start).Seconds())
		if err == nil || errors.Is(err, ErrObjects) {
			m.lastSync.WithLabelValues(f.String()).SetToCurrentTime()
		}
	}
	clear(m.worked)
}

// programmed notes that changes are in the kernel.
func (m *Metrics) programmed(changes []change) {
	for _, c := range changes {
		if !slices.Contains(m.families, c.family) {
			continue
		}
		m.programming.WithLabelValues(c.family.String()).Observe(time.Since(c.at).Seconds())
	}
}

// replaced notes that a Service's state was replaced.
func (m *Metrics) replaced(old, now *service) {
	for _, x := range []struct {
		s    *service
		sign float64
	}{{old, -1}, {now, 1}} {
		if x.s == nil {
			continue
		}
		m.services.Add(x.sign)
		for f, unserved := range x.s.desired.Unserved {
			m.countUnserved(f, unserved, x.sign)
		}
	}
}

func (m *Metrics) countUnserved(f inet.Family, u plan.Unserved, sign float64) {
	for policy, is := range map[string]bool{"internal": u.Internal, "external": u.External} {
		g := m.noLocal.WithLabelValues(policy, f.String())
		if is {
			g.Add(sign)
		}
	}
}
