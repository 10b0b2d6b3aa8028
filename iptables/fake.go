package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	others  map[inet.Family][]Removal
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

// SetKubeProxy simulates rules of kube-proxy, which are removed in these steps.
func (f *Fake) SetKubeProxy(family inet.Family, steps ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others == nil {
		f.others = map[inet.Family][]Removal{}
	}
	f.others[family] = nil
	for _, name := range steps {
		f.others[family] = append(f.others[family], Removal{Name: name, do: func(ctx context.Context) error { return f.removeOther(ctx, family, name) }})
	}
	f.changes++
}

func (f *Fake) removeOther(ctx context.Context, family inet.Family, name string) error {
	if err := f.refused(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others[family] = slices.DeleteFunc(slices.Clone(f.others[family]), func(r Removal) bool { return r.Name == name })
	f.changes++
	return nil
}

// KubeProxy implements Kernel.
func (f *Fake) KubeProxy(ctx context.Context, family inet.Family) ([]Removal, error) {
	if err := f.refused(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.others[family]), nil
}

// KubeProxyServes implements Kernel: kube-proxy serves if its rules are more than jumps.
func (f *Fake) KubeProxyServes(ctx context.Context, family inet.Family) (bool, error) {
	steps, err := f.KubeProxy(ctx, family)
	return len(steps) > 1, err
}

// SawKubeProxy implements Kernel.
func (f *Fake) SawKubeProxy(family inet.Family) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.others[family]) > 0
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
