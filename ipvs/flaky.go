package ipvs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// ErrInjected is the error of what a Flaky lets fail.
var ErrInjected = errors.New("injected failure")

// Flaky is a Kernel that lets a share of all ops and reads fail. Of the ops that fail, every other one is carried out all
// the same, as if its reply had been lost. It may be used by many goroutines.
type Flaky struct {
	Kernel
	Rate float64    // the share that fails: 0 none, 1 all
	Rand *rand.Rand // what decides, so that a run can be repeated

	mu sync.Mutex // guards Rand
}

// Read implements Kernel.
func (f *Flaky) Read(ctx context.Context) (Table, error) {
	if f.fails() {
		return nil, fmt.Errorf("read IPVS table: %w", ErrInjected)
	}
	return f.Kernel.Read(ctx)
}

// ReadServer implements Kernel.
func (f *Flaky) ReadServer(ctx context.Context, key Key) (Entry, error) {
	if f.fails() {
		return Entry{}, fmt.Errorf("read %v: %w", key, ErrInjected)
	}
	return f.Kernel.ReadServer(ctx, key)
}

// Count implements Kernel.
func (f *Flaky) Count(ctx context.Context) (int, error) {
	if f.fails() {
		return 0, fmt.Errorf("count virtual servers: %w", ErrInjected)
	}
	return f.Kernel.Count(ctx)
}

// Walk implements Kernel.
func (f *Flaky) Walk(ctx context.Context, fn func(Key, Entry)) error {
	if f.fails() {
		return fmt.Errorf("walk: %w", ErrInjected)
	}
	return f.Kernel.Walk(ctx, fn)
}

// Do implements Kernel.
func (f *Flaky) Do(ctx context.Context, ops []Op) []error {
	errs := make([]error, len(ops))
	var done []Op
	var at []int // where in ops those in done are
	for i, op := range ops {
		if f.fails() {
			errs[i] = fmt.Errorf("%v: %w", op, ErrInjected)
		}
		if errs[i] == nil || f.coin() {
			done, at = append(done, op), append(at, i)
		}
	}
	for i, err := range f.Kernel.Do(ctx, done) {
		if errs[at[i]] == nil {
			errs[at[i]] = err
		}
	}
	if errors.Join(errs...) == nil {
		return nil
	}
	return errs
}

func (f *Flaky) fails() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Rand.Float64() < f.Rate
}

func (f *Flaky) coin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Rand.IntN(2) == 0
}
