package main

import (
	"fmt"
	"net/netip"
	"sync"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

const (
	servicePort = 80
	podPort     = 8080
)

// serviceCIDR is where the cluster IPs are from; the laboratory's router knows it, too.
var serviceCIDR = netip.MustParsePrefix("10.96.0.0/12")

// A memory is a source of Services in memory. It holds the same values as those that read an API server or a folder.
type memory struct {
	queue *loop.Queue

	mu       sync.Mutex
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
}

// newMemory returns a source of that size. No two Services share an endpoint.
func newMemory(s size) *memory {
	m := &memory{queue: loop.NewQueue(), services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{}}
	for i := range s.Services {
		svc := service(i)
		m.services[svc.Name] = svc
		m.slices[svc.Name] = slicesOf(svc.Name, endpoints(i, s.Endpoints))
	}
	return m
}

// service is the n-th Service.
func service(n int) plan.Service {
	return plan.Service{
		Name:       plan.Name{Namespace: "bench", Name: fmt.Sprintf("service-%05d", n)},
		ClusterIPs: []netip.Addr{clusterIP(n)},
		Ports:      []plan.Port{{Name: "http", Proto: ipvs.TCP, Port: servicePort}},
	}
}

func clusterIP(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96 + byte(n>>16), byte(n >> 8), byte(n)})
}

// endpoints are the n-th Service's, on another node.
func endpoints(n, count int) []plan.Endpoint {
	out := make([]plan.Endpoint, count)
	for i := range out {
		at := n*count + i
		out[i] = ready(netip.AddrFrom4([4]byte{10, 128 + byte(at>>16), byte(at >> 8), byte(at)}), "node2")
	}
	return out
}

func ready(addr netip.Addr, node string) plan.Endpoint {
	return plan.Endpoint{Addr: addr, Node: node, Ready: true, Serving: true}
}

// slicesOf cuts endpoints as the slice controller does: at most a hundred in a slice.
func slicesOf(name plan.Name, all []plan.Endpoint) []plan.Slice {
	const most = 100
	var out []plan.Slice
	for first := 0; first < len(all); first += most {
		out = append(out, plan.Slice{
			Service: name, Ports: []plan.SlicePort{{Name: "http", Proto: ipvs.TCP, Port: podPort}},
			Endpoints: all[first:min(first+most, len(all))],
		})
	}
	return out
}

// Service is part of loop.Source.
func (m *memory) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	svc, ok := m.services[name]
	return svc, m.slices[name], ok
}

// Names is part of loop.Source.
func (m *memory) Names() []plan.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]plan.Name, 0, len(m.services))
	for name := range m.services {
		out = append(out, name)
	}
	return out
}

// set gives a Service these endpoints.
func (m *memory) set(name plan.Name, all ...plan.Endpoint) {
	m.mu.Lock()
	m.slices[name] = slicesOf(name, all)
	m.mu.Unlock()
	m.queue.ServiceChanged(name)
}
