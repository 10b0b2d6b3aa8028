// Package wire puts kube-ipvs together inside a test: a source of Services in memory, and the loop on the running kernel as
// the program wires it.
package wire

import (
	"maps"
	"slices"
	"sync"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Memory implements source.Services in memory, with the same values as the sources of the product. Its methods may be
// called from any goroutine.
type Memory struct {
	Queue *loop.Queue // is notified of changes

	changed func(plan.Name) // the queue's

	mu       sync.Mutex
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice
}

// NewMemory returns a source without a Service.
func NewMemory() *Memory {
	queue := loop.NewQueue()
	return &Memory{
		Queue: queue, changed: queue.ServiceChanged,
		services: map[plan.Name]plan.Service{}, slices: map[plan.Name][]plan.Slice{},
	}
}

// Service implements source.Services.
func (m *Memory) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	svc, ok := m.services[name]
	return svc, m.slices[name], ok
}

// Names implements source.Services.
func (m *Memory) Names() []plan.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.services))
}

// Put adds or replaces a Service with its slices, in the order of their names, without a notification: before Synced,
// none is needed.
func (m *Memory) Put(svc plan.Service, list ...plan.Slice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services[svc.Name], m.slices[svc.Name] = svc, list
}

// Set is Put with a notification.
func (m *Memory) Set(svc plan.Service, list ...plan.Slice) {
	m.Put(svc, list...)
	m.changed(svc.Name)
}

// Remove removes a Service with its slices, and notifies.
func (m *Memory) Remove(name plan.Name) {
	m.mu.Lock()
	delete(m.services, name)
	delete(m.slices, name)
	m.mu.Unlock()
	m.changed(name)
}
