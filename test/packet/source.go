//go:build kernel

package packet

import (
	"net/netip"
	"sync"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A memory is a source of Services in memory.
type memory struct {
	queue *loop.Queue

	mu       sync.Mutex
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
	cidrs    []netip.Prefix
}

func newMemory(queue *loop.Queue) *memory {
	return &memory{queue: queue, services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{}}
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
	var out []plan.Name
	for name := range m.services {
		out = append(out, name)
	}
	return out
}

// set puts a Service with its slices in the place of what it was.
func (m *memory) set(svc plan.Service, slices ...plan.Slice) {
	m.mu.Lock()
	m.services[svc.Name], m.slices[svc.Name] = svc, slices
	m.mu.Unlock()
	m.queue.ServiceChanged(svc.Name)
}

// remove removes a Service with its slices.
func (m *memory) remove(name plan.Name) {
	m.mu.Lock()
	delete(m.services, name)
	delete(m.slices, name)
	m.mu.Unlock()
	m.queue.ServiceChanged(name)
}
