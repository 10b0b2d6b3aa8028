package vip

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"kube-ipvs/internal/ops"
)

// A Fake is a Kernel in memory that refuses what the kernel refuses. It is safe for use by several goroutines.
type Fake struct {
	mu        sync.Mutex
	items     Items
	strangers map[Item]struct{}
	noIPv6    bool
	ops       int
	reads     int
}

var _ Kernel = (*Fake)(nil)

// NewFake returns a kernel without any of our items.
func NewFake() *Fake {
	return &Fake{items: make(Items), strangers: make(map[Item]struct{})}
}

// SetStranger says whether another program's route is where an item's would be. Adding the item is then os.ErrExist.
func (f *Fake) SetStranger(i Item, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.strangers, i)
	if there {
		f.strangers[i] = struct{}{}
	}
}

// SetNoIPv6 says whether IPv6 is disabled, so that adding its items is ErrNoIPv6.
func (f *Fake) SetNoIPv6(disabled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noIPv6 = disabled
}

// Ops returns how many ops Do was given so far.
func (f *Fake) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Reads returns how many times Read was called so far.
func (f *Fake) Reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

// String returns the items in order, a line each, as the commands that would make them.
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Text(f.items)
}

// Text returns items in the order of Compare, a line each, as the commands that would make them.
func Text(items Items) string {
	var b strings.Builder
	for _, i := range slices.SortedFunc(maps.Keys(items), Item.Compare) {
		fmt.Fprintln(&b, Op{Add, i, items[i]})
	}
	return b.String()
}

// Read implements Kernel.
func (f *Fake) Read(ctx context.Context) (Items, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return maps.Clone(f.items), nil
}

// Do implements Kernel.
func (f *Fake) Do(ctx context.Context, list []Op) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops += len(list)
	return ops.Each(list, func(op Op) error { return f.do(ctx, op) })
}

func (f *Fake) do(ctx context.Context, op Op) error {
	if err := op.check(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if op.Verb == Del {
		f.del(op.Item)
		return nil
	}
	return f.add(op.Item, op.Source)
}

func (f *Fake) add(i Item, source netip.Addr) error {
	_, link := f.items[Item{Kind: Link}]
	_, stranger := f.strangers[i]
	switch {
	case i.onLink() && !link:
		return errNoLink
	case f.noIPv6 && i.Prefix.Addr().Is6() && i.Kind != Policy: // a rule alone needs no IPv6
		return ErrNoIPv6
	case stranger:
		return fmt.Errorf("%w: another program's, left alone", os.ErrExist)
	}
	f.items[i] = source
	return nil
}

// del removes an item, and with the link what is on it.
func (f *Fake) del(i Item) {
	delete(f.items, i)
	if i.Kind == Link {
		maps.DeleteFunc(f.items, func(other Item, _ netip.Addr) bool { return other.onLink() })
	}
}
