package sysctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"kube-ipvs/internal/ops"
)

// A Fake is a Kernel in memory. Like a kernel it has a fixed set of settings: those given to NewFake. It is safe for use
// by several goroutines.
type Fake struct {
	ops.Counter

	mu       sync.Mutex
	values   map[string]string
	readOnly bool
}

var _ Kernel = (*Fake)(nil)

// NewFake returns a kernel with these settings.
func NewFake(settings ...Setting) *Fake {
	f := &Fake{values: make(map[string]string)}
	for _, s := range settings {
		f.values[s.Name] = Normal(s.Value)
	}
	return f
}

// SetReadOnly makes writing fail with os.ErrPermission, or succeed again.
func (f *Fake) SetReadOnly(readOnly bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readOnly = readOnly
}

// Read implements Kernel.
func (f *Fake) Read(ctx context.Context, names []string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountRead()
	values := make(map[string]string, len(names))
	var errs []error
	for _, name := range names {
		v, ok := f.values[name]
		switch {
		case ctx.Err() != nil:
			errs = append(errs, fmt.Errorf("sysctl %s: %w", name, ctx.Err()))
		case !validName(name):
			errs = append(errs, fmt.Errorf("sysctl %s: %w name", name, os.ErrInvalid))
		case !ok:
			errs = append(errs, fmt.Errorf("sysctl %s: %w", name, os.ErrNotExist))
		default:
			values[name] = v
		}
	}
	return values, errors.Join(errs...)
}

// Do implements Kernel.
func (f *Fake) Do(ctx context.Context, settings []Setting) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountOps(len(settings))
	return ops.Each(settings, func(s Setting) error { return f.set(ctx, s) })
}

func (f *Fake) set(ctx context.Context, s Setting) error {
	now, ok := f.values[s.Name]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !validName(s.Name):
		return fmt.Errorf("%w name", os.ErrInvalid)
	case !ok:
		return os.ErrNotExist
	case now == Normal(s.Value):
		return nil
	case f.readOnly:
		return os.ErrPermission
	}
	f.values[s.Name] = Normal(s.Value)
	return nil
}

// String returns all settings, sorted, one sysctl(8) command a line.
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		fmt.Fprintln(&b, Setting{name, f.values[name]})
	}
	return b.String()
}
