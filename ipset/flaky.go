package ipset

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// ErrInjected is the error of what a Flaky lets fail.
var ErrInjected = errors.New("injected failure")

// A Flaky is a Kernel that lets a share of all calls and ops fail. Of the ops that fail, every other one is carried out
// all the same, as if its reply had been lost. It may be used by several goroutines.
type Flaky struct {
	Kernel
	Rate float64    // the share that fails: 0 none, 1 all
	Rand *rand.Rand // what decides, so that a run can be repeated

	mu sync.Mutex // guards Rand
}

// Create implements Kernel.
func (f *Flaky) Create(ctx context.Context, s Set) error {
	if f.fails() {
		return fmt.Errorf("create set %s: %w", s.Name, ErrInjected)
	}
	return f.Kernel.Create(ctx, s)
}

// Destroy implements Kernel.
func (f *Flaky) Destroy(ctx context.Context, name string) error {
	if f.fails() {
		return fmt.Errorf("destroy set %s: %w", name, ErrInjected)
	}
	return f.Kernel.Destroy(ctx, name)
}

// Names implements Kernel.
func (f *Flaky) Names(ctx context.Context) ([]string, error) {
	if f.fails() {
		return nil, fmt.Errorf("list set names: %w", ErrInjected)
	}
	return f.Kernel.Names(ctx)
}

// Read implements Kernel.
func (f *Flaky) Read(ctx context.Context, s Set) (map[Member]Mark, error) {
	if f.fails() {
		return nil, fmt.Errorf("read set %s: %w", s.Name, ErrInjected)
	}
	return f.Kernel.Read(ctx, s)
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
