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
	// Fail, if set, is called before each call of a method of Kernel, which then returns its error.
	Fail func() error

	mu      sync.Mutex
	inSync  map[inet.Family]bool // since Ensure
	ensured int
	changes int
}

var _ Kernel = (*Fake)(nil)

// Ensure implements Kernel.
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
	if f.inSync == nil {
		f.inSync = map[inet.Family]bool{}
	}
	f.inSync[r.Family] = true
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

// InSync implements Kernel.
func (f *Fake) InSync(ctx context.Context, family inet.Family) (bool, error) {
	if err := f.refused(ctx); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inSync[family], nil
}

// Repairs implements Kernel.
func (f *Fake) Repairs(ctx context.Context, r Ruleset) ([]Restore, error) {
	if err := f.refused(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inSync[r.Family] {
		return nil, nil
	}
	return []Restore{{Command: map[inet.Family]string{inet.IPv4: "iptables-restore", inet.IPv6: "ip6tables-restore"}[r.Family], Input: r.String()}}, nil
}

// Remove implements Kernel.
func (f *Fake) Remove(ctx context.Context, family inet.Family) error {
	if err := f.refused(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inSync, family)
	return nil
}

// Change simulates a foreign change to the owned rules of a family.
func (f *Fake) Change(family inet.Family) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.inSync, family)
	f.changes++
}

// Touch simulates a change to foreign rules.
func (f *Fake) Touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
}

// Fingerprint implements Kernel.
func (f *Fake) Fingerprint(ctx context.Context, _ inet.Family) (Fingerprint, error) {
	if err := f.refused(ctx); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return Fingerprint(fmt.Sprint(f.changes)), nil
}

// Ensured returns the number of successful calls of Ensure.
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
