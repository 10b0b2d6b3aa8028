package conntrack

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Fake is a table in memory. It is safe for use by several goroutines. The zero Fake is empty.
type Fake struct {
	mu    sync.Mutex
	flows []Flow
	calls [][]Frontend
}

var _ Kernel = (*Fake)(nil)

// Add tracks flows.
func (f *Fake) Add(flows ...Flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flows = append(f.flows, flows...)
}

// Flows returns the tracked flows in the order in which they were added.
func (f *Fake) Flows() []Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.flows)
}

// Calls returns the argument of each call of Delete.
func (f *Fake) Calls() [][]Frontend {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Delete implements Kernel.
func (f *Fake) Delete(ctx context.Context, list []Frontend) (deleted int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, slices.Clone(list))
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("delete tracked flows: %w", err)
	}
	before := len(f.flows)
	f.flows = slices.DeleteFunc(f.flows, index(list).stale)
	return before - len(f.flows), nil
}
