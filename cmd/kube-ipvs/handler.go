package main

import (
	"sync"

	"github.com/go-logr/logr"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A handler implements source.Handler: it passes changes to the loop's queue, and logs the source's problems.
type handler struct {
	queue    *loop.Queue
	problems func() []plan.Problem // the source's
	log      logr.Logger

	mu       sync.Mutex
	reported reported[struct{}]
}

func newHandler(queue *loop.Queue, log logr.Logger) *handler {
	return &handler{queue: queue, log: log, reported: reported[struct{}]{}}
}

// Synced implements source.Handler.
func (h *handler) Synced() { h.queue.Synced() }

// ServiceChanged implements source.Handler.
func (h *handler) ServiceChanged(name plan.Name) { h.queue.ServiceChanged(name) }

// EndpointsChanged implements source.Handler.
func (h *handler) EndpointsChanged(name plan.Name) { h.queue.EndpointsChanged(name) }

// NodeChanged implements source.Handler.
func (h *handler) NodeChanged() { h.queue.NodeChanged() }

// ProblemsChanged implements source.Handler. It logs new problems.
func (h *handler) ProblemsChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	added, _ := h.reported.replace(struct{}{}, h.problems())
	for _, p := range added {
		message := "Ignoring part of an object"
		if p.Note {
			message = "Non-standard value in an object"
		}
		h.log.Info(message, "object", p.Object, "field", p.Field, "reason", p.Reason)
	}
}
