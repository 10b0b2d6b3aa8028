package kube

import "sync"

// A gate drops every call until it is opened, and then passes one at a time. Dropped calls lose nothing: at the opening,
// the informers' stores are read in full.
type gate struct {
	mu     sync.Mutex
	opened bool
}

// open opens the gate and makes a first call before all others.
func (g *gate) open(first func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
	first()
}

// pass makes the call if the gate is open.
func (g *gate) pass(call func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened {
		call()
	}
}

// A latch is set once. (The field's word is event, which is something else in this package.)
type latch struct {
	once *sync.Once
	c    chan struct{}
}

func newLatch() latch { return latch{new(sync.Once), make(chan struct{})} }

// set sets the latch, and reports whether this was the first time.
func (l latch) set() (first bool) {
	l.once.Do(func() {
		close(l.c)
		first = true
	})
	return first
}

// done returns a channel that set closes.
func (l latch) done() <-chan struct{} { return l.c }
