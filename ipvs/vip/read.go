package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// attempts is how often a Read starts anew because something changed while the kernel listed it.
const attempts = 5

// Read implements Kernel. Rules of ours are read whatever they are: those that nobody wants are removed.
func (c *Conn) Read(ctx context.Context) (Items, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for range attempts {
		var items Items
		if items, err = c.read(ctx); err == nil {
			return items, nil
		}
		if !errors.Is(err, bulk.ErrUnknown) {
			break
		}
	}
	return nil, fmt.Errorf("read link, rules, routes and addresses: %w", err)
}

func (c *Conn) read(ctx context.Context) (Items, error) {
	items := make(Items)
	link, err := c.readLink(ctx)
	if err != nil {
		return nil, err
	}
	if link.right() {
		items[Item{Kind: Link}] = netip.Addr{}
	}
	if err := c.readRoutes(ctx, link.index, items); err != nil {
		return nil, err
	}
	if link.index != 0 {
		if err := c.readAddresses(ctx, link.index, items); err != nil {
			return nil, err
		}
	}
	return items, c.readRules(ctx, items)
}

// A dumpOf says what to dump: a request, and the length of the header behind which the attributes begin.
type dumpOf struct {
	get    uint16
	header int
}

// dump calls fn with each message of the dumps of both families. A kernel without IPv6 answers for it with what it has;
// that is passed over.
func (c *Conn) dump(ctx context.Context, what dumpOf, fn func([]byte) error) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		header := make([]byte, what.header)
		header[0] = family
		c.batch.Reset()
		c.batch.Begin(what.get, unix.NLM_F_DUMP)
		c.batch.Raw(header...)
		c.batch.End()
		err := c.bulk.Query(ctx, &c.batch, func(_ uint16, p []byte) error {
			if len(p) > 0 && p[0] != family {
				return nil
			}
			return fn(p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
