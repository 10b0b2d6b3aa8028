package ipvsmode

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// A counting is a table whose readings are counted and can fail.
type counting struct {
	*ipvs.Fake
	mu            sync.Mutex
	totals, reals int
	err           error
	slow          time.Duration
}

func (c *counting) Totals(ctx context.Context) (map[ipvs.Key]ipvs.Counters, error) {
	c.mu.Lock()
	c.totals++
	err := c.err
	c.mu.Unlock()
	time.Sleep(c.slow)
	if err != nil {
		return nil, err
	}
	return c.Fake.Totals(ctx)
}

func (c *counting) CountReals(ctx context.Context, key ipvs.Key) (map[netip.AddrPort]ipvs.CountedReal, error) {
	c.mu.Lock()
	c.reals++
	c.mu.Unlock()
	return c.Fake.CountReals(ctx, key)
}

// A counter is a Traffic with Services in its table.
type counter struct {
	*Traffic
	*counting
	registry *prometheus.Registry
}

func newCounter(t *testing.T, limit int) *counter {
	t.Helper()
	c := &counter{counting: &counting{Fake: new(ipvs.Fake)}, registry: prometheus.NewRegistry()}
	c.Traffic = newTraffic(c.registry, c.counting, nil, limit)
	return c
}

// serve adds a virtual server of a Service with endpoints 10.244.0.N.
func (c *counter) serve(t *testing.T, service string, key ipvs.Key, endpoints ...byte) {
	t.Helper()
	c.own(key, plan.Name{Namespace: "default", Name: service})
	ops := []ipvs.Op{{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}}}
	for _, n := range endpoints {
		ops = append(ops, ipvs.Op{Verb: ipvs.AddReal, Key: key, Addr: pod(n), Real: ipvs.Real{Weight: 1}})
	}
	if errs := c.Do(t.Context(), ops); errs != nil {
		t.Fatal(errs)
	}
}

func pod(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, n}), 8080)
}

// connections returns what is scraped, of the packets the sum of both directions.
func (c *counter) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := c.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		name := strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "kube_ipvs_"), "_total")
		for _, m := range f.GetMetric() {
			words := []string{name}
			for _, l := range m.GetLabel() {
				if l.GetName() != "service_namespace" {
					words = append(words, l.GetValue())
				}
			}
			if value := m.GetCounter().GetValue() + m.GetGauge().GetValue(); value != 0 && name != "traffic_read_duration_seconds" && name != "traffic_counted" {
				out[strings.Join(words, " ")] = value
			}
		}
	}
	return out
}

func connections(n uint64) ipvs.Counters { return ipvs.Counters{Connections: n} }

// Traffic is summed up by Service and endpoint, over all virtual servers, and never falls.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t, 100)
		one, other := server(1), server(2)
		c.serve(t, "web", one, 1, 2)
		c.serve(t, "web", other, 1)
		count := func(key ipvs.Key, n byte, v ipvs.Counters) { c.SetCounters(ipvs.RealKeyOf(key, pod(n)), v) }
		for _, tt := range []struct {
			name string
			do   func()
			want map[string]float64
		}{
			{"nothing yet", func() {}, map[string]float64{}},
			{"connections at both", func() {
				count(one, 1, ipvs.Counters{Connections: 3, InPackets: 1, OutPackets: 2, InBytes: 10, OutBytes: 20})
				count(one, 2, connections(4))
				count(other, 1, connections(5))
			}, map[string]float64{
				"service_connections web": 12, "endpoint_connections 10.244.0.1:8080 tcp web": 8, "endpoint_connections 10.244.0.2:8080 tcp web": 4,
				"service_packets in web": 1, "service_packets out web": 2, "service_bytes in web": 10, "service_bytes out web": 20,
				"endpoint_packets in 10.244.0.1:8080 tcp web": 1, "endpoint_packets out 10.244.0.1:8080 tcp web": 2,
				"endpoint_bytes in 10.244.0.1:8080 tcp web": 10, "endpoint_bytes out 10.244.0.1:8080 tcp web": 20,
			}},
			{"one was removed and added", func() {
				count(one, 1, ipvs.Counters{})
				count(one, 2, connections(1))
			}, map[string]float64{
				"service_connections web": 13, "endpoint_connections 10.244.0.1:8080 tcp web": 8, "endpoint_connections 10.244.0.2:8080 tcp web": 5,
				"service_packets in web": 1, "service_packets out web": 2, "service_bytes in web": 10, "service_bytes out web": 20,
				"endpoint_packets in 10.244.0.1:8080 tcp web": 1, "endpoint_packets out 10.244.0.1:8080 tcp web": 2,
				"endpoint_bytes in 10.244.0.1:8080 tcp web": 10, "endpoint_bytes out 10.244.0.1:8080 tcp web": 20,
			}},
			{"a virtual server is gone", func() {
				c.own(one, plan.Name{})
				c.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: one}})
				count(other, 1, connections(6))
			}, map[string]float64{
				"service_connections web": 14, "endpoint_connections 10.244.0.1:8080 tcp web": 9,
				"service_packets in web": 1, "service_packets out web": 2, "service_bytes in web": 10, "service_bytes out web": 20,
				"endpoint_packets in 10.244.0.1:8080 tcp web": 1, "endpoint_packets out 10.244.0.1:8080 tcp web": 2,
				"endpoint_bytes in 10.244.0.1:8080 tcp web": 10, "endpoint_bytes out 10.244.0.1:8080 tcp web": 20,
			}},
			{"the Service is gone", func() { c.own(other, plan.Name{}) }, map[string]float64{}},
		} {
			tt.do()
			time.Sleep(trafficAge)
			if diff := cmp.Diff(tt.want, c.scrape(t)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
			if problems, err := testutil.GatherAndLint(c.registry); err != nil || len(problems) > 0 {
				t.Errorf("%s: %v, %v", tt.name, err, problems)
			}
		}
	})
}

// The bound holds for Services first, by name, then for their endpoints; and the kernel is asked for no more than is shown.
func TestTrafficIsBounded(t *testing.T) {
	for _, tt := range []struct {
		limit               int
		services, endpoints int // with series
		reals               int // dumps
		omitted             string
	}{
		{1000, 3, 6, 3, "0 0"},
		{45, 3, 6, 3, "0 0"},
		{44, 3, 4, 3, "0 1"},
		{25, 3, 2, 2, "0 2"},
		{15, 3, 0, 1, "0 3"},
		{10, 2, 0, 1, "1 3"},
		{4, 0, 0, 0, "3 3"},
	} {
		c := newCounter(t, tt.limit)
		for n, name := range []string{"a", "b", "c"} {
			c.serve(t, name, server(byte(n)), 1, 2)
			for _, at := range []byte{1, 2} {
				c.SetCounters(ipvs.RealKeyOf(server(byte(n)), pod(at)), connections(1))
			}
		}
		services, endpoints := 0, 0
		got := c.scrape(t)
		for name := range got {
			services += strings.Count(name, "service_connections")
			endpoints += strings.Count(name, "endpoint_connections")
		}
		omitted := fmt.Sprint(got["traffic_omitted_services service"], got["traffic_omitted_services endpoint"])
		if services != tt.services || endpoints != tt.endpoints || c.counting.reals != tt.reals || omitted != tt.omitted {
			t.Errorf("%d series: %d Services and %d endpoints after %d dumps, %s omitted; want %+v", tt.limit, services, endpoints, c.counting.reals, omitted, tt)
		}
	}
}

// A Service with more endpoints than there may be series costs few readings of real servers: not one for each of its virtual servers.
func TestTrafficOfAHugeServiceIsNotRead(t *testing.T) {
	c := newCounter(t, 1000)
	c.serve(t, "a", server(1), 1)
	var ops []ipvs.Op
	for port := range uint16(1000) {
		key := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.MustParseAddr("10.96.1.1"), 1+port))
		c.own(key, plan.Name{Namespace: "default", Name: "huge"})
		ops = append(ops, ipvs.Op{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}})
		for n := range byte(10) {
			ops = append(ops, ipvs.Op{Verb: ipvs.AddReal, Key: key, Addr: netip.AddrPortFrom(pod(n).Addr(), 1+port), Real: ipvs.Real{Weight: 1}})
		}
	}
	if errs := c.Do(t.Context(), ops); errs != nil {
		t.Fatal(errs)
	}
	got := c.scrape(t)
	if got["traffic_omitted_services endpoint"] != 1 || got["traffic_omitted_services service"] != 0 {
		t.Errorf("omitted: %v", got)
	}
	if most := 1 + 1000/seriesOf/10 + 1; c.counting.reals > most { // one of the other Service, and those with as many endpoints as there may be
		t.Errorf("%d readings of real servers, want at most %d", c.counting.reals, most)
	}
}

// Scrapes at the same time share one reading, and one that is fresh serves the next.
func TestTrafficIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t, 100)
		c.serve(t, "web", server(1), 1)
		c.SetCounters(ipvs.RealKeyOf(server(1), pod(1)), connections(1))
		c.slow = 100 * time.Millisecond
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if got := c.scrape(t)["service_connections web"]; got != 1 {
					t.Errorf("%v connections, want 1", got)
				}
			})
		}
		wg.Wait()
		if c.totals != 1 || c.counting.reals != 1 {
			t.Errorf("%d dumps of virtual servers and %d of real servers, want one each", c.totals, c.counting.reals)
		}
		time.Sleep(trafficAge)
		c.scrape(t)
		if c.totals != 2 {
			t.Errorf("%d dumps, want another for a later scrape", c.totals)
		}
	})
}

// Without counters a scrape has all else, and afterwards they go on where they were.
func TestTrafficCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(t, 100)
		c.serve(t, "web", server(1), 1)
		c.SetCounters(ipvs.RealKeyOf(server(1), pod(1)), connections(5))
		c.scrape(t)
		c.err = errRefused
		time.Sleep(trafficAge)
		if diff := cmp.Diff(map[string]float64{"traffic_read_failures": 1}, c.scrape(t)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		c.err = nil
		c.SetCounters(ipvs.RealKeyOf(server(1), pod(1)), connections(7))
		time.Sleep(trafficAge)
		if got := c.scrape(t); got["service_connections web"] != 7 || got["endpoint_connections 10.244.0.1:8080 tcp web"] != 7 {
			t.Errorf("after a failure: %v", got)
		}
	})
}

// The loop tells which virtual servers are whose, aliases too, whoever gets an address next.
func TestTrafficOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var traffic *Traffic
		r.adjust = func(cfg *Config) {
			cfg.Metrics.CountTraffic(prometheus.NewRegistry(), &counting{Fake: r.ipvs}, nil, 100)
			traffic = cfg.Metrics.traffic
		}
		here := pods(1, 2)
		here[0].Node = "node1"
		lb := func(s *plan.Service) {
			s.ExternalLocal, s.LoadBalancerIPs = true, []netip.Addr{netip.MustParseAddr("198.18.0.1")}
		}
		r.start()
		r.queue.Synced()
		at := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("198.18.0.1:80"))
		alias := AliasKey(AddressOf(at))
		one, two := plan.Name{Namespace: "default", Name: "s00001"}, plan.Name{Namespace: "default", Name: "s00002"}
		for _, tt := range []struct {
			name string
			do   func()
			want map[ipvs.Key]plan.Name
		}{
			{"a load balancer with an alias", func() { r.change(1, here, lb) }, map[ipvs.Key]plan.Name{server(1): one, at: one, alias: one}},
			{"another wants its address", func() { r.change(2, here, lb) }, map[ipvs.Key]plan.Name{server(1): one, server(2): two, at: one, alias: one}},
			{"and gets it", func() { r.remove(1) }, map[ipvs.Key]plan.Name{server(2): two, at: two, alias: two}},
			{"which is no load balancer any more", func() { r.change(2, here) }, map[ipvs.Key]plan.Name{server(2): two}},
			{"and goes", func() { r.remove(2) }, map[ipvs.Key]plan.Name{}},
		} {
			tt.do()
			synctest.Wait()
			traffic.mu.Lock()
			if diff := cmp.Diff(tt.want, traffic.owners, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
			traffic.mu.Unlock()
		}
	})
}
