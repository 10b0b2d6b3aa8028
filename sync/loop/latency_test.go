package loop

import (
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// metric returns a metric without labels.
func (r *rig) metric(name string) *dto.Metric {
	r.t.Helper()
	families, err := r.seen.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0]
		}
	}
	r.t.Fatalf("no metric %s", name)
	return nil
}

// triggered says when the change happened that led to a Service's slices.
func (r *rig) triggered(n int, at time.Time) {
	name := r.set(n, pods(byte(at.Second()+1)))
	r.mu.Lock()
	r.slices[name][0].Triggered = at
	r.mu.Unlock()
	r.queue.ServiceChanged(name)
}

// The time from a change of endpoints until it is in the kernel, each change once (TestLastChangeTriggerTime).
func TestProgrammingLatency(t *testing.T) {
	const latency = "kubeproxy_network_programming_duration_seconds"
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.triggered(1, time.Now().Add(-time.Hour)) // before the start: says nothing about this program
		r.queue.Synced()
		synctest.Wait()
		expect := func(what string, count uint64, sum float64) {
			t.Helper()
			synctest.Wait()
			h := r.metric(latency).GetHistogram()
			if h.GetSampleCount() != count || h.GetSampleSum() != sum {
				t.Errorf("%s: %d changes, %v s in all; want %d, %v", what, h.GetSampleCount(), h.GetSampleSum(), count, sum)
			}
		}
		expect("a change before the start", 0, 0)
		time.Sleep(time.Second)
		at := time.Now()
		time.Sleep(2 * time.Second)
		r.triggered(1, at)
		expect("a change", 1, 2)
		r.triggered(1, at)
		expect("the same change again", 1, 2)

		at = time.Now().Add(time.Second)
		time.Sleep(time.Second)
		r.let(refusing("ipvsadm -A -t 10.96.0.2:80 -s rr"))
		r.triggered(2, at)
		r.triggered(1, at)
		expect("a change that is not programmed holds no other up", 2, 2)
		r.let(nil)
		time.Sleep(100 * time.Millisecond)
		expect("once it is programmed it counts from when it happened", 3, 2.1)
	})
}

// A Service that cannot be programmed and changes all the time does not fill the memory.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.let(refusing("ipvsadm -A -t 10.96.0.2:80 -s rr"))
		r.start()
		r.queue.Synced()
		for range 3 * mostWaiting {
			time.Sleep(time.Second)
			r.triggered(2, time.Now())
			synctest.Wait()
		}
		r.let(nil)
		time.Sleep(retryMost)
		synctest.Wait()
		if got := r.metric("kubeproxy_network_programming_duration_seconds").GetHistogram().GetSampleCount(); got != mostWaiting {
			t.Errorf("%d changes measured, want %d", got, mostWaiting)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		r.set(2, pods(1), internalLocal)
		r.start()
		r.queue.Synced()
		synctest.Wait()
		for name, want := range map[string]float64{
			"kube_ipvs_services": 2, "kube_ipvs_service_problems": 0, "kube_ipvs_draining_real_servers": 0,
		} {
			if got := r.metric(name).GetGauge().GetValue(); got != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		if got := r.noLocal(); got["internal"] != 1 || got["external"] != 0 {
			t.Errorf("Services without local endpoints: %v, want one internal", got)
		}
		r.change(2, pods(1))
		synctest.Wait()
		if got := r.noLocal(); got["internal"] != 0 {
			t.Errorf("Services without local endpoints: %v, want none", got)
		}
		if got := r.metric("kubeproxy_sync_proxy_rules_duration_seconds").GetHistogram().GetSampleCount(); got != 2 {
			t.Errorf("%d attempts counted, want 2", got)
		}
	})
}
