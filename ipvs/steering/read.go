package steering

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// attempts bounds the retries of a Read during concurrent changes.
const attempts = 5

// Read implements Kernel. It returns all owned rules, so that the caller removes undesired ones. Where a stranger's rule has
// come before those of Policies, these are undesired, and to be added again: before it.
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
	if link.inSync() {
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

// A dumpOf selects a dump: the request and the length of the header before the attributes, in bytes.
type dumpOf struct {
	get    uint16
	header int
}

// dump calls fn with each message of the dumps of both families. A kernel without IPv6 answers with other families'
// messages; those are skipped.
func (c *Conn) dump(ctx context.Context, of dumpOf, fn func([]byte) error) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		header := make([]byte, of.header)
		header[0] = family
		c.batch.Reset()
		c.batch.Begin(of.get, unix.NLM_F_DUMP)
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
