package ipvsmode

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

func TestUncounted(t *testing.T) {
	run := func(value string) sysctl.Setting { return sysctl.Setting{Name: ipvs.RunEstimation, Value: value} }
	cpus := func(list string) sysctl.Setting { return sysctl.Setting{Name: ipvs.EstimationCPUs, Value: list} }
	for _, tt := range []struct {
		name     string
		settings []sysctl.Setting
		want     string // a part of the sentence; empty: there is none
	}{
		{"a kernel without the setting", nil, ""},
		{"a timer estimates", []sysctl.Setting{run("1")}, ""},
		{"any number but 0 does", []sysctl.Setting{run("2")}, ""},
		{"the timer does nothing", []sysctl.Setting{run("0")}, "run_estimation is 0"},
		{"threads estimate", []sysctl.Setting{run("1"), cpus("0-3")}, ""},
		{"threads are stopped", []sysctl.Setting{run("0"), cpus("0-3")}, "run_estimation is 0"},
		{"threads have no CPU", []sysctl.Setting{run("1"), cpus("")}, "est_cpulist is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := uncounted(t.Context(), sysctl.NewFake(tt.settings...))
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// estimate lets a fake kernel estimate, or not.
func estimate(t *testing.T, k *sysctl.Fake, value string) {
	t.Helper()
	if errs := k.Do(t.Context(), []sysctl.Setting{{Name: ipvs.RunEstimation, Value: value}}); errs != nil {
		t.Fatal(errs)
	}
}

// While the kernel does not count, no series of traffic stands still: there is none, and nothing is read. Afterwards, the sums go on.
func TestTrafficIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, settings := newCounter(t, 100), sysctl.NewFake(sysctl.Setting{Name: ipvs.RunEstimation, Value: "1"})
		c.settings = settings
		c.serve(t, "web", server(1), 1)
		for _, tt := range []struct {
			name, estimation string
			connections      uint64
			want             map[string]float64
			reads            int
		}{
			{"counted", "1", 3, map[string]float64{"service_connections web": 3, "endpoint_connections 10.244.0.1:8080 tcp web": 3}, 1},
			{"not counted", "0", 3, map[string]float64{}, 1},
			{"still not", "0", 3, map[string]float64{}, 1},
			{"counted again", "1", 8, map[string]float64{"service_connections web": 8, "endpoint_connections 10.244.0.1:8080 tcp web": 8}, 2},
		} {
			estimate(t, settings, tt.estimation)
			c.SetCounters(ipvs.RealKeyOf(server(1), pod(1)), connections(tt.connections))
			time.Sleep(trafficAge)
			if diff := cmp.Diff(tt.want, c.scrape(t)); diff != "" || c.counting.totals != tt.reads {
				t.Errorf("%s: %d readings; (-want +got):\n%s", tt.name, c.counting.totals, diff)
			}
			want := "# HELP kube_ipvs_traffic_counted " + countedHelp + "\n# TYPE kube_ipvs_traffic_counted gauge\nkube_ipvs_traffic_counted " + tt.estimation + "\n"
			if err := testutil.GatherAndCompare(c.registry, strings.NewReader(want), "kube_ipvs_traffic_counted"); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	})
}

// While the kernel does not count, what has connections has a load all the same.
func TestTotalsWithoutCounters(t *testing.T) {
	table, settings := new(ipvs.Fake), sysctl.NewFake(sysctl.Setting{Name: ipvs.RunEstimation, Value: "1"})
	busy, quiet := server(1), server(2)
	for _, key := range []ipvs.Key{busy, quiet} {
		if errs := table.Do(t.Context(), []ipvs.Op{
			{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}}, {Verb: ipvs.AddReal, Key: key, Addr: pod(1), Real: ipvs.Real{Weight: 1}},
		}); errs != nil {
			t.Fatal(errs)
		}
	}
	if err := table.SetConnections(ipvs.RealKeyOf(busy, pod(1)), 3, 2); err != nil {
		t.Fatal(err)
	}
	m := Meter{Table: table, Settings: settings}
	totals, err := m.Totals(t.Context())
	expectLoads(t, err, map[plan.Address]loop.Load{}, totals)
	estimate(t, settings, "0")
	totals, err = m.Totals(t.Context())
	expectLoads(t, err, map[plan.Address]loop.Load{AddressOf(busy): {Weight: 1, Active: 3, Inactive: 2}}, totals)
	loads, err := m.Loads(t.Context(), &plan.Frontend{Address: AddressOf(busy)})
	expectLoads(t, err, map[netip.AddrPort]loop.Load{pod(1): {Weight: 1, Active: 3, Inactive: 2}}, loads)
}
