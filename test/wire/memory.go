// Package wire puts kube-ipvs together inside a test: a source of Services in memory, and the loop on the running kernel as
// the program wires it.
package wire

import (
	"sync"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Memory is a source of Services in memory. It holds the same values as those that read an API server or a folder. Its
// methods may be called from any goroutine.
type Memory struct {
	Queue *loop.Queue // is told what changed

	mu       sync.Mutex
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
}

// NewMemory returns a source without a Service.
func NewMemory() *Memory {
	return &Memory{Queue: loop.NewQueue(), services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{}}
}

// Service is part of loop.Source.
func (m *Memory) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	svc, ok := m.services[name]
	return svc, m.slices[name], ok
}

// Names is part of loop.Source.
func (m *Memory) Names() []plan.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]plan.Name, 0, len(m.services))
	for name := range m.services {
		out = append(out, name)
	}
	return out
}

// Put puts a Service with its slices in the place of what it was and tells nobody: what is there before the queue is told
// that all is synced is news then.
func (m *Memory) Put(svc plan.Service, slices ...plan.Slice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services[svc.Name], m.slices[svc.Name] = svc, slices
}

// Set puts a Service with its slices in the place of what it was.
func (m *Memory) Set(svc plan.Service, slices ...plan.Slice) {
	m.Put(svc, slices...)
	m.Queue.ServiceChanged(svc.Name)
}

// Remove removes a Service with its slices.
func (m *Memory) Remove(name plan.Name) {
	m.mu.Lock()
	delete(m.services, name)
	delete(m.slices, name)
	m.mu.Unlock()
	m.Queue.ServiceChanged(name)
}
