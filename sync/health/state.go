// Package health answers whether this node should get traffic: for the whole proxy on /healthz and /livez, and for single
// Services on their health-check node ports.
package health

import (
	"sync"
	"time"
)

// A State knows whether the proxy keeps up: it does unless something has been waiting to be programmed for longer than
// the limit. Its methods may be called from any goroutine.
type State struct {
	limit time.Duration

	mu      sync.Mutex
	pending time.Time // since when something has been waiting, or zero
	updated time.Time // when everything was last programmed, or zero
}

// NewState returns a state that tolerates changes that wait for less than the limit. Kube-proxy's is twice its sync
// period.
func NewState(limit time.Duration) *State { return &State{limit: limit} }

// Queued notes that something changed and is to be programmed.
func (s *State) Queued() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.IsZero() {
		s.pending = time.Now()
	}
}

// Converged notes that everything was programmed, or that an attempt failed.
func (s *State) Converged(err error) {
	if err != nil {
		s.Queued()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.updated = time.Time{}, time.Now()
}

// Healthy says whether the proxy keeps up, and when everything was last programmed.
func (s *State) Healthy() (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.IsZero() || time.Since(s.pending) < s.limit, s.updated
}
