// Package health reports whether this node should get traffic: for the proxy as a whole on /healthz, /livez and /readyz,
// and for single Services on their health-check node ports.
package health

import (
	"fmt"
	"sync"
	"time"
)

// A State records whether the proxy keeps up and is alive. It keeps up unless a change has waited for longer than the
// limit to be programmed, and is alive unless its loop is stuck. Its methods may be called from any goroutine.
type State struct {
	limit time.Duration

	mu      sync.Mutex
	pending time.Time // since when a change has waited, or zero
	updated time.Time // when everything was last programmed, or zero
	beat    time.Time // the loop's last sign of life, or zero: it has not begun
}

// stuckAfter is the time without a beat after which the loop counts as stuck. No single request to the kernel takes as
// long.
const stuckAfter = 2 * time.Minute

// NewState returns a state that tolerates changes that wait for less than the limit. Kube-proxy's limit is twice its
// sync period.
func NewState(limit time.Duration) *State { return &State{limit: limit} }

// Queued notes a change that is to be programmed.
func (s *State) Queued() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.IsZero() {
		s.pending = time.Now()
	}
}

// Converged notes the end of a sync: everything was programmed, or the error why not.
func (s *State) Converged(err error) {
	if err != nil {
		s.Queued()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.updated = time.Time{}, time.Now()
}

// Beat notes a sign of life of the loop.
func (s *State) Beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.Now()
}

// Alive reports whether a restart would be useless: the loop is alive, or has not begun. A new process would fare no
// better with a kernel that refuses objects or an API server that does not respond.
func (s *State) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive()
}

func (s *State) alive() bool { return s.beat.IsZero() || time.Since(s.beat) < stuckAfter }

func (s *State) keepsUp() bool { return s.pending.IsZero() || time.Since(s.pending) < s.limit }

// Waits returns since when a change has waited to be programmed; zero: none does.
func (s *State) Waits() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// unready returns the reason why the node is not ready, or "".
func (s *State) unready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.alive():
		return fmt.Sprintf("the loop has been stuck for %v", time.Since(s.beat).Truncate(time.Second))
	case !s.keepsUp():
		return fmt.Sprintf("a change has waited for %v to be programmed", time.Since(s.pending).Truncate(time.Second))
	case s.updated.IsZero():
		return "not everything was programmed yet since the start"
	}
	return ""
}

// Healthy reports whether the proxy is alive and keeps up, and when everything was last programmed.
func (s *State) Healthy() (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive() && s.keepsUp(), s.updated
}
