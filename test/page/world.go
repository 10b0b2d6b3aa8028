package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// drainLimit is the limit of drains.
const drainLimit = 15 * time.Minute

var (
	nodeAddr   = netip.MustParseAddr("192.168.77.11")
	externalIP = netip.MustParseAddr("203.0.113.33")
	created    = time.Now().Add(-26 * time.Hour)
)

// markup is a text that runs a script, or loads a file, wherever it is taken for more than a text.
const markup = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>` + "\u202e"

// A world has Services for the loop, and the kernel's tables.
type world struct {
	queue     *loop.Queue
	table     *refusingTable
	converged chan error

	mu       sync.Mutex
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
}

// A refusingTable refuses real servers at an address, for lack of memory.
type refusingTable struct {
	*ipvs.Fake
	refused netip.Addr
}

// Do implements ipvs.Kernel.
func (t *refusingTable) Do(ctx context.Context, ops []ipvs.Op) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if op.Verb == ipvs.AddReal && op.Addr.Addr() == t.refused {
			errs[i] = syscall.ENOMEM
			continue
		}
		errs[i] = errors.Join(t.Fake.Do(ctx, []ipvs.Op{op})...)
	}
	return errs
}

// nameOf returns the name of a Service by its number.
func nameOf(i int) plan.Name {
	return plan.Name{Namespace: []string{"shop", "bank", "mail"}[i%3], Name: fmt.Sprintf("web-%05d", i)}
}

// newWorld returns a world with so many Services. Of each thousand one has no endpoints, one wants the address of another, one
// a policy that leaves sources outside without an endpoint, and one an endpoint that the kernel refuses.
func newWorld(services int, hostile bool) *world {
	w := &world{
		queue: loop.NewQueue(), converged: make(chan error, 100), services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{},
		table: &refusingTable{Fake: new(ipvs.Fake), refused: netip.MustParseAddr("10.244.255.255")},
	}
	for i := range services {
		name, n := nameOf(i), i+1
		svc := plan.Service{
			Name: name, UID: name.Name, Created: created.Add(time.Duration(i) * time.Second), Ports: []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80}},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(n>>16), byte(n >> 8), byte(n)})},
		}
		endpoints := w.endpoints(i, 3)
		switch i % 1000 {
		case 0:
			svc.ExternalIPs = []netip.Addr{externalIP}
		case 1:
			endpoints = nil
		case 2:
			svc.ExternalIPs = []netip.Addr{externalIP, netip.MustParseAddr("203.0.113.34")}
		case 3:
			svc.Ports[0].NodePort, svc.ExternalLocal = uint16(30000+i/1000), true
			endpoints = endpoints[1:] // none is on this node
		case 4:
			endpoints = append(endpoints, plan.Endpoint{Addr: w.table.refused, Node: "node2", Ready: true, Serving: true})
		}
		w.set(svc, endpoints)
	}
	if hostile {
		name := plan.Name{Namespace: markup, Name: markup}
		svc := plan.Service{
			Name: name, Created: created, Ports: []plan.Port{{Name: markup, Proto: inet.TCP, Port: 80}, {Name: "again", Proto: inet.TCP, Port: 80}},
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.111.0.1")}, ExternalIPs: []netip.Addr{externalIP},
			Problems: []plan.Problem{{Object: markup, Field: markup, Reason: markup}},
		}
		w.set(svc, []plan.Endpoint{{Addr: netip.MustParseAddr("10.244.250.1"), Node: markup, Ready: true, Serving: true}})
	}
	return w
}

// endpoints returns so many endpoints of a Service; the first is on this node.
func (w *world) endpoints(service, n int) []plan.Endpoint {
	var out []plan.Endpoint
	for i := range n {
		out = append(out, plan.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, 244, byte(service >> 6), byte(service<<2 + i)}), Node: fmt.Sprintf("node%d", i+1), Ready: true, Serving: true,
		})
	}
	return out
}

func (w *world) set(svc plan.Service, endpoints []plan.Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slice := plan.Slice{Service: svc.Name, Family: inet.IPv4, Endpoints: endpoints}
	for _, p := range svc.Ports {
		slice.Ports = append(slice.Ports, plan.SlicePort{Name: p.Name, Proto: p.Proto, Port: 8080})
	}
	w.services[svc.Name], w.slices[svc.Name] = svc, []plan.Slice{slice}
}

// Names implements loop.Source.
func (w *world) Names() []plan.Name {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.services))
}

// Service implements loop.Source.
func (w *world) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.services[name]
	return s, w.slices[name], ok
}

// pods names the pods of a Service.
func (w *world) pods(_ context.Context, name plan.Name) map[netip.Addr]string {
	_, in, _ := w.Service(name)
	out := map[netip.Addr]string{}
	for _, slice := range in {
		for i, e := range slice.Endpoints {
			out[e.Addr] = fmt.Sprintf("%s-%c", name.Name, 'a'+rune(i))
		}
	}
	return out
}

func (w *world) config() ipvsmode.Config {
	own := []netip.Addr{nodeAddr}
	return ipvsmode.Config{
		Config: loop.Config{
			Source: w, Queue: w.queue, Plan: plan.Config{Scheduler: "rr"}, LookInterval: loop.LookInterval,
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: "node1", Own: own, Addresses: own, Primary: own}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, nil
			},
			Health: func(plan.Name, *plan.Health) {}, Report: func(plan.Name, []plan.Problem) {},
			Converged: func(err error) {
				select {
				case w.converged <- err:
				default: // nobody waits any more
				}
			},
		},
		Kernel:   ipvsmode.FakeKernel(w.table),
		Families: []inet.Family{inet.IPv4}, Marks: ipvsmode.MarksFor(14), DrainLimit: drainLimit, Metrics: metrics(),
		Detector: ipvsmode.Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}},
	}
}

// busy is the number of Services with traffic.
const busy = 100

// begin waits until all is programmed; then endpoints get connections, and one begins to drain.
func (w *world) begin(ctx context.Context) error {
	w.queue.Synced()
	for range 2 { // sets, then frontends
		select {
		case <-w.converged:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.traffic(0)
	first := nameOf(0)
	svc, in, _ := w.Service(first)
	endpoints := slices.Clone(in[0].Endpoints)
	w.set(svc, endpoints[:len(endpoints)-1])
	w.queue.ServiceChanged(first)
	return nil
}

func (w *world) clusterIP(i int) netip.Addr {
	svc, _, _ := w.Service(nameOf(i))
	if len(svc.ClusterIPs) == 0 {
		return netip.Addr{}
	}
	return svc.ClusterIPs[0]
}

// live changes connections and counters every two seconds, as IPVS brings its counts up to date. At first somebody removes a
// virtual server.
func (w *world) live(ctx context.Context) error {
	for tick := 1; ; tick++ {
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		if del := (ipvs.Op{Verb: ipvs.DelServer, Key: ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(w.clusterIP(2), 80))}); tick == 1 {
			if err := errors.Join(w.table.Do(ctx, []ipvs.Op{del})...); err != nil {
				return err
			}
		}
		w.traffic(tick)
	}
}

// traffic gives the first Services connections, whose number rises and falls.
func (w *world) traffic(tick int) {
	for i := range busy {
		at := w.clusterIP(i)
		if !at.IsValid() {
			continue
		}
		key := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(at, 80))
		reals, err := w.table.CountReals(context.Background(), key)
		if err != nil {
			continue
		}
		for real, state := range reals {
			wave := 1 + math.Sin(float64(tick)/5+float64(i))
			n := uint64(float64(20*(busy-i))/10*wave) + uint64(real.Addr().As4()[3]%4)
			k, c := ipvs.RealKeyOf(key, real), state.Counters
			_ = w.table.SetConnections(k, uint32(n), uint32(n/3)) // it may be gone
			w.table.SetCounters(k, c.Add(ipvs.Counters{Connections: 2 * n, InPackets: 40 * n, OutPackets: 36 * n, InBytes: 4000 * n, OutBytes: 180000 * n}))
		}
	}
}

// change gives a Service so many endpoints: "17 3" gives number 17 three.
func (w *world) change(line string) error {
	var number, n int
	if _, err := fmt.Sscanf(line, "%d %d", &number, &n); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	svc, _, ok := w.Service(nameOf(number))
	if !ok {
		return fmt.Errorf("%q: no such Service", line)
	}
	w.set(svc, w.endpoints(number, n))
	w.queue.ServiceChanged(svc.Name)
	return nil
}
