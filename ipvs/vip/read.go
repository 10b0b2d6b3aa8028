package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// attempts is how often a Read starts anew because something changed while the kernel listed it.
const attempts = 5

// families are the prefixes that stand for a family in items that consist of rules.
func families() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
}

// Read implements Kernel. What is left of diverting and is none of ours any more (rules that no Divert has, a route
// without rules, rules without their route) is the Divert with mark 0, which nobody wants and so is removed.
func (c *Conn) Read(ctx context.Context) (map[Item]struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for range attempts {
		var items map[Item]struct{}
		if items, err = c.read(ctx); err == nil {
			return items, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, bulk.ErrUnknown) {
			break
		}
	}
	return nil, fmt.Errorf("read link, rules, routes and addresses: %w", err)
}

func (c *Conn) read(ctx context.Context) (map[Item]struct{}, error) {
	items := make(map[Item]struct{})
	link, err := c.readLink(ctx)
	if err != nil {
		return nil, err
	}
	if link.right() {
		items[Item{Kind: Link}] = struct{}{}
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

// readRules adds the items that consist of rules. The routes must have been read.
func (c *Conn) readRules(ctx context.Context, items map[Item]struct{}) error {
	for _, prefix := range families() {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, kind := range []Kind{LastResort, Refuse} {
			like := Item{Kind: kind, Prefix: prefix}
			rules, err := c.tableRules(like)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if i, ours := itemOf(like, r); ours {
					items[i] = struct{}{}
				}
			}
		}
		left := Item{Kind: Divert, Prefix: prefix} // here if the route is
		rules, err := c.tableRules(left)
		if err != nil {
			return err
		}
		addDiverts(items, left, rules)
	}
	return nil
}

// addDiverts adds the Divert of each rule, or says by left that something is not as it should be.
func addDiverts(items map[Item]struct{}, left Item, rules []netlink.Rule) {
	_, route := items[left]
	delete(items, left)
	right := route && len(rules) > 0
	for _, r := range rules {
		i, ours := itemOf(left, r)
		if !ours {
			right = false
			continue
		}
		if route {
			items[i] = struct{}{}
		}
	}
	if !right && (route || len(rules) > 0) {
		items[left] = struct{}{}
	}
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
