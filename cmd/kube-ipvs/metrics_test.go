package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/client-go/kubernetes/fake"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/kube"
)

var update = flag.Bool("update", false, "write generated pages anew")

const metricsPage = "../../docs/metrics.md"

// A metric is the description of a metric.
type metric struct {
	name, help string
	labels     []string
	kind       dto.MetricType
}

// A catalog is a Registerer that collects descriptions, also of metrics without values.
type catalog struct{ metrics []metric }

func (c *catalog) Register(collector prometheus.Collector) error {
	c.MustRegister(collector)
	return nil
}

func (c *catalog) Unregister(prometheus.Collector) bool { return false }

// described splits the text of a description, which has no other access to its parts.
var described = regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", unit: ".*", constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

func (c *catalog) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		descriptions := make(chan *prometheus.Desc, 1000)
		collector.Describe(descriptions)
		close(descriptions)
		for d := range descriptions {
			parts := described.FindStringSubmatch(d.String())
			if parts == nil {
				panic(d.String())
			}
			m := metric{name: parts[1], help: parts[2], kind: kindOf(collector)}
			if m.kind == dto.MetricType_UNTYPED { // a collector of several kinds, which keeps the rule of names
				m.kind = dto.MetricType_GAUGE
				if strings.HasSuffix(m.name, "_total") {
					m.kind = dto.MetricType_COUNTER
				}
			}
			if parts[3] != "" {
				m.labels = strings.Split(parts[3], ",")
			}
			c.metrics = append(c.metrics, m)
		}
	}
}

func kindOf(c prometheus.Collector) dto.MetricType {
	switch c.(type) {
	case *prometheus.CounterVec:
		return dto.MetricType_COUNTER
	case *prometheus.HistogramVec, prometheus.Histogram:
		return dto.MetricType_HISTOGRAM
	case *prometheus.GaugeVec:
		return dto.MetricType_GAUGE
	}
	// Gauges have all methods of counters.
	if _, is := c.(prometheus.Gauge); is {
		return dto.MetricType_GAUGE
	}
	if _, is := c.(prometheus.Counter); is {
		return dto.MetricType_COUNTER
	}
	return dto.MetricType_UNTYPED
}

// metricsWith returns the descriptions of all metrics whose names begin like this, sorted.
func metricsWith(t *testing.T, prefix string) []metric {
	t.Helper()
	cfg := *config.Default()
	cfg.Manifests = t.TempDir()
	p, err := newProxy(t.Context(), &cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var c catalog
	p.registerMetrics(&c)
	kube.New(kube.Config{Client: fake.NewClientset(), NodeName: "n1"}, p.queue).Register(&c)
	out := slices.DeleteFunc(c.metrics, func(m metric) bool { return !strings.HasPrefix(m.name, prefix) })
	slices.SortFunc(out, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return out
}

// The metrics of kube-ipvs follow Prometheus' conventions. Those of kube-proxy have kube-proxy's names.
func TestMetricsLint(t *testing.T) {
	var families []*dto.MetricFamily
	for _, m := range metricsWith(t, "kube_ipvs_") {
		sample := &dto.Metric{}
		for _, name := range m.labels {
			sample.Label = append(sample.Label, &dto.LabelPair{Name: &name, Value: new(string)})
		}
		families = append(families, &dto.MetricFamily{Name: &m.name, Help: &m.help, Type: &m.kind, Metric: []*dto.Metric{sample}})
	}
	if len(families) < 5 {
		t.Fatalf("%d metrics, which cannot be all", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricsPage holds docs/metrics.md to the metrics; go test -update writes it.
func TestMetricsPage(t *testing.T) {
	var want bytes.Buffer
	want.WriteString(`# Metrics

This page is generated from the program. ` + "`/metrics`" + ` on port 10249 has these metrics, and those of Kubernetes's libraries:
of the Go runtime and the process (` + "`go_*`, `process_*`" + `), of the requests to the API server (` + "`rest_client_*`" + `), of queues and informers, and
` + "`kubernetes_build_info`, which names the Kubernetes whose libraries these are, and `kubernetes_feature_enabled`" + `.
`)
	for _, section := range []struct{ title, prefix string }{
		{"Metrics of kube-ipvs", "kube_ipvs_"},
		{"Metrics of kube-proxy\n\nThey have kube-proxy's names, labels, meaning and buckets. A pass of kube-ipvs serves both address families, and counts for each that had\nwork. With the feature gate NativeHistograms, on by default, histograms are native ones, too.", "kubeproxy_"},
	} {
		fmt.Fprintf(&want, "\n## %s\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n", section.title)
		for _, m := range metricsWith(t, section.prefix) {
			fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", m.name, strings.ToLower(m.kind.String()), strings.Join(m.labels, ", "), strings.TrimPrefix(m.help, "[ALPHA] "))
		}
	}
	if *update {
		if err := os.WriteFile(metricsPage, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not that of these metrics; go test ./cmd/kube-ipvs -update (-want +got):\n%s", diff)
	}
}

// Every metric that the program exports at the start is on the page, wherever it was registered.
func TestMetricsAreListed(t *testing.T) {
	cfg := *config.Default()
	cfg.Manifests = t.TempDir()
	p, err := newProxy(t.Context(), &cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
	}
}
