package kubeproxy

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
)

// shapesFile has the shapes of kube-proxy's own metrics in ipvs mode, with a series of each label; TestCompareMetrics holds
// it to the real one.
const shapesFile = "testdata/metrics.txt"

// TestShapes holds our metrics of kube-proxy's names to its shapes, without running it.
func TestShapes(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := ipvsmode.NewMetrics(registry, loop.MetricsConfig{Families: []inet.Family{inet.IPv4, inet.IPv6}, Native: true})
	m.Queued()
	loop.NewQueue().Register(registry)
	h := &health.Handlers{State: health.NewState(time.Minute), Eligible: func() bool { return true }, Alone: func() bool { return true }, Families: func() []string { return nil }}
	h.Register(registry)
	h.Healthz(httptest.NewRecorder())
	h.Livez(httptest.NewRecorder())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ours := ShapesOfFamilies(families)
	text, err := os.ReadFile(shapesFile)
	if err != nil {
		t.Fatal(err)
	}
	delete(ours, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total") // kube-proxy has no series before the first failure
	for line := range strings.Lines(string(text)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		if got := ours[name]; got != want && name != "kubeproxy_sync_proxy_rules_last_timestamp_seconds" { // which has none before the first sync
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		delete(ours, name)
	}
	for name := range ours.Only("kubeproxy_") {
		t.Errorf("kube-proxy has no %s", name)
	}
}
