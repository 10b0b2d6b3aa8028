package ipvsmode

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

func created(n int) func(*plan.Service) {
	return func(s *plan.Service) { s.Created = time.Unix(int64(n), 0) }
}

// manyPorts gives a Service the ports from 1000 on.
func manyPorts(n int) func(*plan.Service) {
	return func(s *plan.Service) {
		s.Ports = nil
		for i := range n {
			s.Ports = append(s.Ports, plan.Port{Name: "http", Proto: inet.TCP, Port: uint16(1000 + i)})
		}
	}
}

// Who comes first does not depend on who was there first, but on what the frontend is to whom: what the API server allocates
// cannot be taken by what users write.
func TestWhoHasAFrontend(t *testing.T) {
	address, port := "10.96.7.7", uint16(30080)
	is := map[string]func(*plan.Service){
		"cluster IP":       func(s *plan.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr(address)} },
		"external IP":      externalIP(address),
		"load-balancer IP": func(s *plan.Service) { s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr(address)} },
		"node port":        func(s *plan.Service) { s.Ports[0].Port, s.Ports[0].NodePort = 80, port },
	}
	for i, winner := range []string{"cluster IP", "node port", "load-balancer IP", "external IP"} {
		for _, loser := range []string{"cluster IP", "node port", "load-balancer IP", "external IP"}[i+1:] {
			for _, loserIsFirst := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s and %s, the loser comes first %v", winner, loser, loserIsFirst), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t)
						r.node.Addresses = []netip.Addr{netip.MustParseAddr(address)}
						same := func(s *plan.Service) { s.Ports[0].Port = port }
						r.start()
						r.queue.Synced()
						add := []func(){
							func() { r.change(1, pods(1), same, is[loser], created(1)) },
							func() { r.change(2, pods(2), same, is[winner], created(2)) },
						}
						if !loserIsFirst {
							add[0], add[1] = add[1], add[0]
						}
						for _, add := range add {
							add()
							synctest.Wait()
						}
						want := "map[10.244.0.2:8080:"
						if got := fmt.Sprint(r.ipvs.Table()[ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.MustParseAddr(address), port))].Reals); !strings.HasPrefix(got, want) {
							t.Errorf("served by %s, want %s", got, want)
						}
						told := fmt.Sprintf("default/s00001 [Service default/s00001: %s 10.96.7.7:30080 (tcp): is served for Service default/s00002, whose %s it is]", loser, winner)
						if last := r.reports[len(r.reports)-1]; last != told {
							t.Errorf("told %s\nwant %s", last, told)
						}
					})
				})
			}
		}
	}
}

// What users may create any number of costs what it is: each Service is looked at once, whoever gets an address from whom,
// and a change of one costs what changed.
func TestManyServicesWantOneAddress(t *testing.T) {
	const ports = 20
	first, change := map[int]float64{}, map[int]float64{}
	for _, n := range []int{50, 400} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			set := func(i int, p []plan.Endpoint) plan.Name { // who comes last is the oldest
				return r.set(i, p, externalIP("198.18.0.1"), manyPorts(ports), created(n-i))
			}
			for i := range n {
				set(i, pods(1))
			}
			r.start()
			before := allocated()
			r.queue.Synced()
			synctest.Wait()
			first[n] = float64(allocated()-before) / float64(n)
			if len(r.reports) != n-1 {
				t.Errorf("%d Services: %d reports, want one of each but the first: %q", n, len(r.reports), r.reports[:min(5, len(r.reports))])
			}
			r.reports = nil
			change[n] = testing.AllocsPerRun(20, func() {
				for _, p := range [][]plan.Endpoint{pods(1, 2), pods(1)} {
					r.queue.ServiceChanged(set(n/2, p))
					synctest.Wait()
				}
			})
			if len(r.reports) != 0 {
				t.Errorf("an endpoint of one that waits is told to %q", r.reports)
			}
		})
	}
	if few, many := first[50], first[400]; many > 1.5*few {
		t.Errorf("the first sync takes %.0f bytes a Service with 50 of them, %.0f with 400", few, many)
	}
	if few, many := change[50], change[400]; many > 1.1*few {
		t.Errorf("a change takes %v allocations with 50 Services, %v with 400", few, many)
	}
}

// allocated is how many bytes were allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// Of a Service that gets very little of what it wants a part is told, and how much more there is.
func TestManyConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1), externalIP("198.18.0.1"), manyPorts(100))
		r.set(2, pods(1), externalIP("198.18.0.1"), manyPorts(100))
		var told []plan.Problem
		r.report = func(_ plan.Name, p []plan.Problem) { told = p }
		r.start()
		r.queue.Synced()
		synctest.Wait()
		if len(told) != mostConflicts+1 || told[mostConflicts].Reason != "90 more of its addresses and ports are served for others" {
			t.Errorf("told %v", told)
		}
		if got := r.metric("kube_ipvs_service_problems").GetGauge().GetValue(); got != 100 {
			t.Errorf("%v problems are counted, want 100", got)
		}
		r.remove(1)
		if len(told) != 0 || r.metric("kube_ipvs_service_problems").GetGauge().GetValue() != 0 {
			t.Errorf("the first is gone: told %v", told)
		}
	})
}

// What changes at once is told as it is afterwards: one that gives a frontend to another one has no conflict with it.
func TestFrontendsAreExchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1), externalIP("198.18.0.1"), created(1))
		r.set(2, pods(2), externalIP("198.18.0.2"), created(2))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		var names []plan.Name
		for n, a := range map[int]string{1: "198.18.0.2", 2: "198.18.0.1"} {
			names = append(names, r.set(n, pods(byte(n)), externalIP(a), created(n)))
		}
		r.queue.ServicesChanged(names...)
		synctest.Wait()
		if len(r.reports) > 0 {
			t.Errorf("told %q", r.reports)
		}
	})
}
