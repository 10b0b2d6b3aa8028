package main

import (
	"path/filepath"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// registerNodeMetrics registers the metrics of the program itself and of the node's connection tracking.
func registerNodeMetrics(r prometheus.Registerer, procSys string) {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kube_ipvs_build_info", Help: "1, with the version of kube-ipvs and of Go.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	conntrack := func(name, help, file string) prometheus.Collector {
		return setting{prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}), filepath.Join(procSys, file)}
	}
	r.MustRegister(build,
		conntrack("kube_ipvs_conntrack_entries", "Connections that the node tracks, of Services and others.", conntrackCount),
		conntrack("kube_ipvs_conntrack_entries_limit", "Connections that the node can track.", conntrackMax))
}

// The files of connection tracking.
const (
	conntrackCount = "net/netfilter/nf_conntrack_count"
	conntrackMax   = "net/netfilter/nf_conntrack_max"
)

// A setting is a gauge of a number in a file of the kernel. It has no value while the file has none.
type setting struct {
	prometheus.Gauge
	file string
}

// Collect implements prometheus.Collector.
func (s setting) Collect(metrics chan<- prometheus.Metric) {
	value, err := readNumber(s.file)
	if err != nil {
		return
	}
	s.Set(float64(value))
	s.Gauge.Collect(metrics)
}
