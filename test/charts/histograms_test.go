package charts_test

import (
	"errors"
	"io"
	"net/http/httptest"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// TestClassicHistograms: rules and dashboard ask for buckets. A Prometheus that takes native histograms leaves the buckets of a histogram that
// is both, as kube-proxy's are, unless the PodMonitor asks for them.
func TestClassicHistograms(t *testing.T) {
	const name = "kubeproxy_network_programming_duration_seconds"
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Buckets: []float64{1, 60}, NativeHistogramBucketFactor: 1.1})
	h.Observe(40)
	r := prometheus.NewRegistry()
	r.MustRegister(h)
	request, answer := httptest.NewRequest("GET", "/metrics", nil), httptest.NewRecorder()
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(answer, request)

	asksFor := monitored[monitoringv1.PodMonitor](t, "PodMonitor").Spec.ScrapeClassicHistograms
	for _, tt := range []struct{ classic, want bool }{{false, false}, {asksFor != nil && *asksFor, true}} {
		p, err := textparse.New(answer.Body.Bytes(), answer.Header().Get("Content-Type"), labels.NewSymbolTable(),
			textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: tt.classic})
		if err != nil {
			t.Fatal(err)
		}
		if got := stored(t, p)[name+"_bucket"]; got != tt.want {
			t.Errorf("buckets are stored: %v, want %v", got, tt.want)
		}
	}
}

// stored returns the names of all series of an answer.
func stored(t *testing.T, p textparse.Parser) map[string]bool {
	names := map[string]bool{}
	for {
		switch entry, err := p.Next(); {
		case errors.Is(err, io.EOF):
			return names
		case err != nil:
			t.Fatal(err)
		case entry == textparse.EntryHistogram, entry == textparse.EntrySeries:
			if entry == textparse.EntryHistogram {
				p.Histogram() // the parser goes on after that
			}
			var l labels.Labels
			p.Labels(&l)
			names[l.Get("__name__")] = true
		}
	}
}
