package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestNodeMetrics reads what the kernel has at each scrape, and leaves out what it does not have.
func TestNodeMetrics(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "net/netfilter"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	registerNodeMetrics(r, dir)
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "net/netfilter", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scrape := func(name string, want map[string]float64) {
		t.Helper()
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		want["kube_ipvs_build_info"] = 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	scrape("without conntrack", map[string]float64{})
	write("nf_conntrack_max", "262144\n")
	write("nf_conntrack_count", "?\n")
	scrape("no number", map[string]float64{"kube_ipvs_conntrack_entries_limit": 262144})
	write("nf_conntrack_count", "17\n")
	scrape("both", map[string]float64{"kube_ipvs_conntrack_entries": 17, "kube_ipvs_conntrack_entries_limit": 262144})
}
