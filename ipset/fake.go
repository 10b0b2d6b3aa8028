package ipset

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"kube-ipvs/internal/ops"
)

// A Fake is a Kernel in memory with the kernel's checks. It is safe for use by several goroutines.
type Fake struct {
	ops.Counter

	mu    sync.Mutex
	sets  map[string]*fakeSet
	limit int
}

type fakeSet struct {
	Set
	members map[Member]Mark
	inUse   bool
}

var _ Kernel = (*Fake)(nil)

// NewFake returns a kernel without sets.
func NewFake() *Fake { return &Fake{sets: make(map[string]*fakeSet), limit: MaxElem} }

// SetLimit bounds the members of each set, instead of MaxElem.
func (f *Fake) SetLimit(members int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = members
}

// SetInUse makes an existing set count as referred to by a rule, or not.
func (f *Fake) SetInUse(name string, inUse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sets[name]; s != nil {
		s.inUse = inUse
	}
}

// String returns all sets with their members, sorted, in the format of "ipset save".
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		b.WriteString(Save(f.sets[name].Set, f.sets[name].members))
	}
	return b.String()
}

// Create implements Kernel.
func (f *Fake) Create(ctx context.Context, s Set) error {
	if err := s.check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if existing, ok := f.sets[s.Name]; ok {
		return existing.definition().satisfies(s)
	}
	f.sets[s.Name] = &fakeSet{Set: s, members: make(map[Member]Mark)}
	return nil
}

func (s *fakeSet) definition() definition {
	d := definition{typ: s.Type, family: s.Family, maxElem: MaxElem}
	if s.Marks {
		d.flags = flagWithSkbInfo
	}
	return d
}

// Destroy implements Kernel.
func (f *Fake) Destroy(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s := f.sets[name]; s != nil && s.inUse {
		return fmt.Errorf("destroy set %s: %w", name, ErrInUse)
	}
	delete(f.sets, name)
	return nil
}

// Names implements Kernel.
func (f *Fake) Names(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return slices.Sorted(maps.Keys(f.sets)), nil
}

// Read implements Kernel.
func (f *Fake) Read(ctx context.Context, s Set) (map[Member]Mark, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountRead()
	existing := f.sets[s.Name]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case existing == nil:
		return nil, fmt.Errorf("read set %s: %w", s.Name, os.ErrNotExist)
	case existing.Type != s.Type || existing.Family != s.Family:
		return nil, fmt.Errorf("read set %s: %w as %s of %v", s.Name, os.ErrExist, existing.Type, existing.Family)
	}
	return maps.Clone(existing.members), nil
}

// Do implements Kernel.
func (f *Fake) Do(ctx context.Context, list []Op) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountOps(len(list))
	return ops.Each(list, func(op Op) error { return f.do(ctx, op) })
}

func (f *Fake) do(ctx context.Context, op Op) error {
	if err := op.Set.check(); err != nil {
		return err
	}
	if err := op.Set.checkMember(op.Member); err != nil {
		return err
	}
	s := f.sets[op.Set.Name]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s == nil:
		return os.ErrNotExist
	}
	if err := s.checkMember(op.Member); err != nil {
		return err
	}
	switch op.Verb {
	case Del:
		delete(s.members, op.Member)
		return nil
	case Test:
		if _, ok := s.members[op.Member]; !ok {
			return ErrNoMember
		}
		return nil
	}
	return s.add(op, f.limit)
}

func (s *fakeSet) add(op Op, limit int) error {
	if op.Set.Marks && !s.Marks {
		return fmt.Errorf("%w: the set has no marks", os.ErrInvalid)
	}
	if _, ok := s.members[op.Member]; !ok && len(s.members) >= limit {
		return ErrFull
	}
	s.members[op.Member] = Mark{}
	if op.Set.Marks {
		s.members[op.Member] = op.Mark
	}
	return nil
}
