package steering

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

// A Fake is a Kernel in memory with the kernel's checks. It is safe for use by several goroutines.
type Fake struct {
	ops.Counter

	mu      sync.Mutex
	items   Items
	foreign map[Item]struct{}
	noIPv6  bool
}

var _ Kernel = (*Fake)(nil)

// NewFake returns a kernel without items.
func NewFake() *Fake {
	return &Fake{items: make(Items), foreign: make(map[Item]struct{})}
}

// SetStranger puts a foreign route in the place of an item, or removes it. Adding the item then returns os.ErrExist.
func (f *Fake) SetStranger(i Item, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.foreign, i)
	if there {
		f.foreign[i] = struct{}{}
	}
}

// SetNoIPv6 disables IPv6 or enables it. While it is disabled, adding its items returns ErrNoIPv6.
func (f *Fake) SetNoIPv6(disabled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noIPv6 = disabled
}

// String returns the items as Text does.
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Text(f.items)
}

// Text returns items in the order of Compare, a line each, as the commands that add them.
func Text(items Items) string {
	var b strings.Builder
	for _, i := range slices.SortedFunc(maps.Keys(items), Item.Compare) {
		fmt.Fprintln(&b, Op{Item: i, Source: items[i]})
	}
	return b.String()
}

// Read implements Kernel.
func (f *Fake) Read(ctx context.Context) (Items, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountRead()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return maps.Clone(f.items), nil
}

// Do implements Kernel.
func (f *Fake) Do(ctx context.Context, list []Op) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.CountOps(len(list))
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
	_, foreign := f.foreign[i]
	switch {
	case i.onLink() && !link:
		return errNoLink
	case f.noIPv6 && i.Prefix.Addr().Is6() && i.Kind != Policy: // a rule alone needs no IPv6
		return ErrNoIPv6
	case foreign:
		return fmt.Errorf("%w: a foreign object, left alone", os.ErrExist)
	}
	f.items[i] = source
	return nil
}

// del removes an item, and with the link the items on it.
func (f *Fake) del(i Item) {
	delete(f.items, i)
	if i.Kind == Link {
		maps.DeleteFunc(f.items, func(other Item, _ netip.Addr) bool { return other.onLink() })
	}
}
