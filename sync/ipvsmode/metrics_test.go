package ipvsmode

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/reconcile"
)

func TestErrnoOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("ipvsadm: %w", unix.ENOMEM), "ENOMEM"},
		{errors.Join(os.ErrNotExist, unix.ESRCH), "ESRCH"},
		{fmt.Errorf("%w: ipset says so", os.ErrInvalid), "EINVAL"},
		{unix.Errno(4103), "other"},
		{errors.New("exit status 1"), "other"},
	} {
		if got := errnoOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

// series returns all series of a metric.
func (r *rig) series(name string) []*dto.Metric {
	r.t.Helper()
	families, err := r.seen.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// values returns the values of a metric other than 0, by its labels; of a histogram the sum.
func (r *rig) values(name string) map[string]float64 {
	r.t.Helper()
	out := map[string]float64{}
	for _, m := range r.series(name) {
		value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
		if value == 0 {
			continue
		}
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetValue())
		}
		out[strings.Join(labels, " ")] = value
	}
	return out
}

// The first external change is an increase: each component has its series from the start.
func TestExternalChangesHaveSeries(t *testing.T) {
	seen := prometheus.NewRegistry()
	NewMetrics(seen, loop.MetricsConfig{})
	for _, name := range []string{"kube_ipvs_external_changes_total", "kube_ipvs_external_changes_repaired_total"} {
		if n, err := testutil.GatherAndCount(seen, name); n != 4 || err != nil {
			t.Errorf("%s: %d series, %v, want 4", name, n, err)
		}
	}
}

// An object that the kernel refuses is counted once as failed, each time as a failure by its number, and not as present.
func TestLayerMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.set(2, pods(1))
		r.let(func(what string) error {
			if what == "ipvsadm -a -t 10.96.0.2:80 -r 10.244.0.1:8080 -m -w 1" {
				return unix.ENOMEM
			}
			return nil
		})
		r.start()
		r.queue.Synced()
		synctest.Wait()
		for _, tt := range []struct {
			metric, labels string
			want           float64
		}{
			{"kube_ipvs_layer_objects", "servers present", 2}, {"kube_ipvs_layer_objects", "servers pending", 0}, {"kube_ipvs_layer_objects", "servers failed", 0},
			{"kube_ipvs_layer_objects", "reals present", 2}, {"kube_ipvs_layer_objects", "reals pending", 1}, {"kube_ipvs_layer_objects", "reals failed", 1},
			{"kube_ipvs_layer_objects", "set KIPVS-FRONTENDS present", 2}, {"kube_ipvs_layer_objects", "rules IPv4 present", 1},
			{"kube_ipvs_layer_operation_failures_total", "ENOMEM reals", 1}, {"kube_ipvs_layer_operations_total", "reals", 3},
		} {
			if got := r.values(tt.metric)[tt.labels]; got != tt.want {
				t.Errorf("%s of %s: %v, want %v", tt.metric, tt.labels, got, tt.want)
			}
		}
		asked := 0.0
		for _, n := range r.values("kube_ipvs_layer_operations_total") {
			asked += n
		}
		if got := r.values("kube_ipvs_batch_operations")[""]; got != asked {
			t.Errorf("%v operations in batches, want all %v", got, asked)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := r.values("kube_ipvs_layer_operation_failures_total")["ENOMEM reals"]; got < 2 {
			t.Errorf("%v failures after retries", got)
		}
		r.let(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.values("kube_ipvs_layer_objects"); got["reals failed"] != 0 || got["reals present"] != 3 {
			t.Errorf("once it is accepted: %v", got)
		}
	})
}

// An external change is counted when it is found, and again when it is repaired.
func TestExternalChangesMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = time.Second
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.let(refusing("ipvsadm -A -t 10.96.0.1:80 -s rr"))
		r.othersDo(ipvs.Op{Verb: ipvs.DelServer, Key: server(1)})
		time.Sleep(time.Second)
		synctest.Wait()
		if found, repaired := r.values("kube_ipvs_external_changes_total"), r.values("kube_ipvs_external_changes_repaired_total"); found["servers"] < 1 || len(repaired) > 0 {
			t.Errorf("found %v, repaired %v while the kernel refuses it", found, repaired)
		}
		r.let(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		found, repaired := r.values("kube_ipvs_external_changes_total"), r.values("kube_ipvs_external_changes_repaired_total")
		if diff := cmp.Diff(found, repaired); diff != "" {
			t.Errorf("(-found +repaired):\n%s", diff)
		}
	})
}

// Declining a change is no failure of the kernel's.
func TestDeclinedIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		d := newDataplane(r.config())
		d.serverLayer.Fail(server(1), reconcile.Declined("foreign"))
		if got := r.values("kube_ipvs_layer_operation_failures_total"); len(got) > 0 {
			t.Errorf("counted %v", got)
		}
	})
}
