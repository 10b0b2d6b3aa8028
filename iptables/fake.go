package iptables

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"kube-ipvs/internal/inet"
)

// A Fake is a Kernel in memory. It is safe for use by several goroutines. The zero Fake is ready for use.
type Fake struct {
	// Fail, if set, is asked before each call and may refuse it.
	Fail func() error

	mu       sync.Mutex
	standing map[inet.Family]bool // as it was ensured
	ensured  int
	changes  int
}

var _ Kernel = (*Fake)(nil)

// Ensure is part of Kernel.
func (f *Fake) Ensure(ctx context.Context, r Ruleset) error {
	if err := f.refused(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range r.Jumps {
		if !hasChain(r, j.Table, j.To) {
			return errors.New(j.String() + ": no such chain")
		}
	}
	if f.standing == nil {
		f.standing = map[inet.Family]bool{}
	}
	f.standing[r.Family] = true
	f.ensured++
	f.changes++
	return nil
}

func hasChain(r Ruleset, table, name string) bool {
	for _, c := range r.Chains {
		if c.Table == table && c.Name == name {
			return true
		}
	}
	return false
}

// Stands is part of Kernel.
func (f *Fake) Stands(ctx context.Context, family inet.Family) (bool, error) {
	if err := f.refused(ctx); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing[family], nil
}

// Remove is part of Kernel.
func (f *Fake) Remove(ctx context.Context, family inet.Family) error {
	if err := f.refused(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.standing, family)
	return nil
}

// Change lets somebody else change the rules of a family.
func (f *Fake) Change(family inet.Family) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.standing, family)
	f.changes++
}

// Touch lets somebody else change rules of their own.
func (f *Fake) Touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
}

// Trace is part of Kernel.
func (f *Fake) Trace(ctx context.Context, _ inet.Family) (Trace, error) {
	if err := f.refused(ctx); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return Trace(fmt.Sprint(f.changes)), nil
}

// Ensured returns how many times Ensure succeeded.
func (f *Fake) Ensured() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ensured
}

func (f *Fake) refused(ctx context.Context) error {
	if f.Fail != nil {
		if err := f.Fail(); err != nil {
			return err
		}
	}
	return ctx.Err()
}
