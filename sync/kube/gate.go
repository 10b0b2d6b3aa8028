package kube

import "sync"

// A gate drops every call until it is opened, and lets one through at a time then. What was dropped is not lost: it is in
// the stores, which are read in full after the opening.
type gate struct {
	mu     sync.Mutex
	opened bool
}

// open opens the gate and lets a first call through before all others.
func (g *gate) open(first func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
	first()
}

// pass lets a call through if the gate is open.
func (g *gate) pass(call func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened {
		call()
	}
}

// A signal is given once.
type signal struct {
	once *sync.Once
	c    chan struct{}
}

func newSignal() signal { return signal{new(sync.Once), make(chan struct{})} }

// give gives the signal, and says whether it was for the first time.
func (s signal) give() (first bool) {
	s.once.Do(func() {
		close(s.c)
		first = true
	})
	return first
}

// done is closed when the signal was given.
func (s signal) done() <-chan struct{} { return s.c }
