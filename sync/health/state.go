// Package health answers whether this node should get traffic: for the whole proxy on /healthz, /livez and /readyz, and for
// single Services on their health-check node ports.
package health

import (
	"sync"
	"time"
)

// A State knows whether the proxy keeps up, and whether it goes on at all. It keeps up unless something has been waiting to be
// programmed for longer than the limit, and goes on unless its loop is stuck. Its methods may be called from any goroutine.
type State struct {
	limit time.Duration

	mu      sync.Mutex
	pending time.Time // since when something has been waiting, or zero
	updated time.Time // when everything was last programmed, or zero
	beat    time.Time // when the loop last told that it goes on, or zero: it has not begun
}

// stuckAfter is how long a loop without a beat is waited for. No single question to the kernel takes as long.
const stuckAfter = 2 * time.Minute

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

// Beat notes that the loop goes on.
func (s *State) Beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.Now()
}

// Alive reports whether a restart would mend nothing: the loop goes on, or has not begun. What the kernel refuses it refuses a
// new process, too, and an API server that is away answers none.
func (s *State) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive()
}

func (s *State) alive() bool { return s.beat.IsZero() || time.Since(s.beat) < stuckAfter }

// Healthy reports whether the proxy keeps up, and when everything was last programmed.
func (s *State) Healthy() (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive() && (s.pending.IsZero() || time.Since(s.pending) < s.limit), s.updated
}
