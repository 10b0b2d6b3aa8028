package ipvsmode

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// metric returns a metric without labels.
func (r *rig) metric(name string) *dto.Metric {
	r.t.Helper()
	series := r.series(name)
	if len(series) == 0 {
		r.t.Fatalf("no metric %s", name)
	}
	return series[0]
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

		r.change(1, pods(9))
		expect("slices that do not say when they were changed", 3, 2.1)
		at = time.Now()
		r.let(refusing("ipvsadm -A -t 10.96.0.3:80 -s rr"))
		r.triggered(3, at)
		r.remove(3)
		synctest.Wait() // or it may be programmed between the two
		r.let(nil)
		expect("a Service that was deleted before it was programmed", 3, 2.1)
		time.Sleep(time.Second)
		at = time.Now()
		time.Sleep(time.Second)
		r.triggered(3, at)
		expect("and made again: its new slices alone", 4, 3.1)
	})
}

// Whoever writes a slice may say that it was changed in the future. That took no time, and what changes before is measured.
func TestProgrammingLatencyOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		expect := func(what string, count uint64, sum float64) {
			t.Helper()
			synctest.Wait()
			h := r.metric("kubeproxy_network_programming_duration_seconds").GetHistogram()
			if h.GetSampleCount() != count || h.GetSampleSum() != sum {
				t.Errorf("%s: %d changes, %v s in all; want %d, %v", what, h.GetSampleCount(), h.GetSampleSum(), count, sum)
			}
		}
		synctest.Wait()
		ahead := time.Now().Add(time.Minute)
		r.triggered(1, ahead)
		expect("a change of the future", 1, 0)
		r.triggered(1, ahead)
		expect("the same again", 1, 0)
		time.Sleep(time.Second)
		at := time.Now()
		time.Sleep(time.Second)
		r.triggered(1, at)
		expect("a change that happened", 2, 1)
		r.triggered(1, ahead)
		time.Sleep(time.Hour)
		r.triggered(1, ahead)
		expect("when its time is past", 3, 1)
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

// A Service is counted where its policy says Local, and there are endpoints but none here (TestNoEndpointsMetric).
func TestNoLocalEndpoints(t *testing.T) {
	here := pods(1)
	here[0].Node = "node1"
	both := func(s *plan.Service) { internalLocal(s); externalLocal(s) }
	for name, tt := range map[string]struct {
		endpoints []plan.Endpoint
		policy    func(*plan.Service)
		want      map[string]float64
	}{
		"internal, all here":       {here, internalLocal, map[string]float64{"internal": 0, "external": 0}},
		"external, all here":       {here, externalLocal, map[string]float64{"internal": 0, "external": 0}},
		"both, all here":           {here, both, map[string]float64{"internal": 0, "external": 0}},
		"internal, all elsewhere":  {pods(1), internalLocal, map[string]float64{"internal": 1, "external": 0}},
		"external, all elsewhere":  {pods(1), externalLocal, map[string]float64{"internal": 0, "external": 1}},
		"both, all elsewhere":      {pods(1), both, map[string]float64{"internal": 1, "external": 1}},
		"both, nowhere":            {nil, both, map[string]float64{"internal": 0, "external": 0}},
		"Cluster, all elsewhere":   {pods(1), func(*plan.Service) {}, map[string]float64{"internal": 0, "external": 0}},
		"both, here and elsewhere": {append(pods(2), here...), both, map[string]float64{"internal": 0, "external": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(1, tt.endpoints, tt.policy)
				r.start()
				r.queue.Synced()
				synctest.Wait()
				if diff := cmp.Diff(tt.want, r.noLocal()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				r.remove(1)
				if diff := cmp.Diff(map[string]float64{"internal": 0, "external": 0}, r.noLocal()); diff != "" {
					t.Errorf("when it is gone (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func externalLocal(s *plan.Service) { s.ExternalLocal, s.Ports[0].NodePort = true, 30001 }

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

// What happens in one family counts for that family alone, as if each had a proxy of its own.
func TestMetricsByFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []inet.Family{inet.IPv4, inet.IPv6}
		r.start()
		r.queue.Synced()
		synctest.Wait()
		syncs := r.byFamily("kubeproxy_sync_proxy_rules_duration_seconds")
		dual := func(s *plan.Service) {
			s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr("fd00:96::1"))
			s.InternalLocal = true
		}
		v6 := func(last int, at time.Time) plan.Slice {
			return plan.Slice{
				Service: plan.Name{Namespace: "default", Name: "s00001"}, Family: inet.IPv6, Triggered: at,
				Ports:     []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}},
				Endpoints: []plan.Endpoint{{Addr: netip.MustParseAddr(fmt.Sprintf("fd00:244::%d", last)), Node: "node2", Ready: true, Serving: true}},
			}
		}
		at := time.Now().Add(time.Second)
		time.Sleep(2 * time.Second)
		for _, tt := range []struct {
			name string
			do   func()
			want map[string]string // by family: syncs, changes measured, Services without local endpoints
		}{
			{"one Service of IPv4", func() { r.change(2, pods(1)) }, map[string]string{"IPv4": "1 0 0", "IPv6": "0 0 0"}},
			{"one of both, with endpoints in IPv6", func() {
				name := r.set(1, nil, dual)
				r.slices[name] = append(r.slices[name], v6(1, at))
				r.queue.ServiceChanged(name)
			}, map[string]string{"IPv4": "2 0 0", "IPv6": "1 1 1"}},
			{"endpoints of the same moment in IPv4: the Service is planned in both families", func() {
				name := r.set(1, pods(1), dual)
				r.slices[name][0].Triggered = at
				r.slices[name] = append(r.slices[name], v6(1, at))
				r.queue.ServiceChanged(name)
			}, map[string]string{"IPv4": "3 1 1", "IPv6": "2 1 1"}},
			{"the other Service is gone", func() { r.remove(2) }, map[string]string{"IPv4": "4 1 1", "IPv6": "2 1 1"}},
			{"the node changed", func() { r.queue.NodeChanged() }, map[string]string{"IPv4": "5 1 1", "IPv6": "3 1 1"}},
		} {
			tt.do()
			synctest.Wait()
			after, changes, unserved := r.byFamily("kubeproxy_sync_proxy_rules_duration_seconds"),
				r.byFamily("kubeproxy_network_programming_duration_seconds"), r.byFamily("kubeproxy_sync_proxy_rules_no_local_endpoints_total")
			got := map[string]string{}
			for _, f := range []string{"IPv4", "IPv6"} {
				got[f] = fmt.Sprint(after[f]-syncs[f], changes[f], unserved[f])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
	})
}

// byFamily returns a gauge, or how often a histogram was observed, by family; of several series the sum.
func (r *rig) byFamily(name string) map[string]float64 {
	r.t.Helper()
	out := map[string]float64{}
	for _, m := range r.series(name) {
		out[m.GetLabel()[0].GetValue()] += m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return out
}
