//go:build cluster

package e2e_test

import (
	"bufio"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A sample is one line of metrics in Prometheus' text format.
type sample struct {
	name  string // with labels
	value float64
}

// samples returns the samples whose names begin so.
func samples(t *testing.T, text, prefix string) []sample {
	t.Helper()
	var found []sample
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[end+1:], 64)
		must(t, err)
		found = append(found, sample{line[:end], value})
	}
	return found
}

// metrics returns kube-ipvs's metrics.
func (w *world) metrics(t *testing.T, prefix string) []sample {
	t.Helper()
	found := samples(t, w.node.ask(t, "GET", "http://"+nodeHost+":10249/metrics"), prefix)
	if len(found) == 0 {
		t.Fatalf("kube-ipvs has no metrics %s", prefix)
	}
	return found
}

// testLatency measures the time from a write to the API until a packet gets to the new endpoint. There is no bound that a
// busy machine would keep; half a minute is await's.
func testLatency(t *testing.T, w *world) {
	const changes = 20
	s := w.keep(t, "latency")
	to := clusterIPs(s)[:1]
	var took []time.Duration
	for i := range changes {
		pod := []string{"pod2", "pod1"}[i%2]
		slice := newSlice(s, 0, ready(pod))
		begin := time.Now()
		w.putSlice(t, slice)
		w.node.await(t, "asker", to, pod+" saw asker")
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("from the write of an endpoint to its first packets: median %v, worst %v of %d",
		took[changes/2].Round(time.Millisecond), took[changes-1].Round(time.Millisecond), changes)
	if seen := w.metrics(t, "kubeproxy_network_programming_duration_seconds_count")[0].value; seen < changes {
		t.Errorf("kube-ipvs measured %v changes, want at least %d", seen, changes)
	}
}
