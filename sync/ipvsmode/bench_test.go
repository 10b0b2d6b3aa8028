package ipvsmode

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A cluster is a source of Services that is in memory.
type cluster struct {
	names    []plan.Name
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
}

func newCluster(services, endpoints int) *cluster {
	c := &cluster{services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{}}
	for n := range services {
		name := plan.Name{Namespace: "bench", Name: fmt.Sprintf("service-%05d", n)}
		at := uint16(n * 40503) // an API server gives them out in no order, each once
		c.names = append(c.names, name)
		c.services[name] = plan.Service{
			Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(at >> 8), byte(at)})},
			Ports: []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80}},
		}
		c.set(n, n*endpoints, endpoints)
	}
	return c
}

// set gives the n-th Service so many endpoints, from the first on.
func (c *cluster) set(n, first, count int) {
	all := make([]plan.Endpoint, count)
	for i := range all {
		at := first + i
		all[i] = plan.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 128 + byte(at>>16), byte(at >> 8), byte(at)}), Node: "node2", Ready: true, Serving: true}
	}
	name := c.names[n]
	c.slices[name] = []plan.Slice{{Service: name, Ports: []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}, Endpoints: all}}
}

func (c *cluster) Names() []plan.Name { return c.names }

func (c *cluster) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	s, ok := c.services[name]
	return s, c.slices[name], ok
}

// run runs a loop that has the cluster for its source, on willing kernels. Synced returns at the end of its next sync.
func (c *cluster) run(b *testing.B) (q *loop.Queue, synced, stop func()) {
	return c.runOn(b, WillingKernel())
}

// runOn is run on other kernels.
func (c *cluster) runOn(b *testing.B, kernel Kernel) (q *loop.Queue, synced, stop func()) {
	q = loop.NewQueue()
	attempts, ended := make(chan error, 1), make(chan error, 1)
	l := New(Config{
		Kernel:   kernel,
		Families: []inet.Family{inet.IPv4, inet.IPv6}, Marks: MarksFor(14), DrainLimit: time.Hour, Metrics: NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{}),
		Config: loop.Config{
			Source: c, Queue: q, Plan: plan.Config{Scheduler: "rr"},
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: "node1"}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, nil
			},
			Health: func(plan.Name, *plan.Health) {}, Report: func(plan.Name, []plan.Problem) {},
			Converged: func(err error) { attempts <- err },
		},
	})
	ctx, cancel := context.WithCancel(klog.NewContext(b.Context(), klog.Logger{}))
	go func() { ended <- l.Run(ctx) }()
	synced = func() {
		if err := <-attempts; err != nil {
			b.Fatal(err)
		}
	}
	return q, synced, func() { cancel(); <-ended }
}

// BenchmarkFirst is the loop's part of a first programming.
func BenchmarkFirst(b *testing.B) {
	for _, size := range []struct{ services, endpoints int }{{10_000, 10}, {1_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.endpoints), func(b *testing.B) {
			c := newCluster(size.services, size.endpoints)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				q, synced, stop := c.run(b)
				runtime.GC()
				b.StartTimer()
				q.Synced()
				synced()
				b.StopTimer()
				stop()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkEndpoint is the loop's part of one endpoint that changes. It must not depend on how much else there is.
func BenchmarkEndpoint(b *testing.B) {
	for _, services := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("%dx10", services), func(b *testing.B) {
			c := newCluster(services, 10)
			q, synced, stop := c.run(b)
			defer stop()
			q.Synced()
			synced()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i % services
				c.set(n, n*10+i/services%2, 10)
				q.ServiceChanged(c.names[n])
				synced()
			}
		})
	}
}

// A busyTable is a willing one whose real servers all have a connection.
type busyTable struct {
	willingTable
	reals map[netip.AddrPort]ipvs.RealState
}

func (t busyTable) ReadServer(context.Context, ipvs.Key) (ipvs.Entry, error) {
	return ipvs.Entry{Reals: t.reals}, nil
}

// BenchmarkEndpointWhileOthersDrain is the loop's part of one endpoint that changes while others drain. It must not depend on how many.
func BenchmarkEndpointWhileOthersDrain(b *testing.B) {
	for _, draining := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("%d", draining), func(b *testing.B) {
			c := newCluster(draining+1, 2)
			busy := busyTable{reals: map[netip.AddrPort]ipvs.RealState{}}
			for n := range draining {
				for _, e := range c.slices[c.names[n]][0].Endpoints {
					busy.reals[netip.AddrPortFrom(e.Addr, 8080)] = ipvs.RealState{Active: 1}
				}
			}
			kernel := WillingKernel()
			kernel.IPVS = busy
			q, synced, stop := c.runOn(b, kernel)
			defer stop()
			q.Synced()
			synced()
			for n := range draining {
				c.set(n, n*2, 1)
			}
			q.ServicesChanged(c.names...)
			synced()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.set(draining, draining*2, 2+i%2)
				q.ServiceChanged(c.names[draining])
				synced()
			}
		})
	}
}

// BenchmarkConflicts is the loop's part of Services that all want one address: of the first sync, and of one of them that
// changes. Anybody who may create Services may create these.
func BenchmarkConflicts(b *testing.B) {
	const services, ports = 800, 100
	c := newCluster(services, 1)
	for n, name := range c.names {
		svc := c.services[name]
		manyPorts(ports)(&svc)
		externalIP("198.18.0.1")(&svc)
		created(services - n)(&svc) // who comes last is the oldest
		c.services[name] = svc
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			q, synced, stop := c.run(b)
			q.Synced()
			synced()
			stop()
		}
	})
	q, synced, stop := c.run(b)
	defer stop()
	q.Synced()
	synced()
	for name, n := range map[string]int{"one that waits": services / 2, "the one that is served": services - 1} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				c.set(n, n+i%2, 1)
				q.ServiceChanged(c.names[n])
				synced()
			}
		})
	}
}
