package steering

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// timeout bounds the wait for an answer of the kernel.
const timeout = 10 * time.Second

// A Conn is a Kernel over netlink: the running kernel's owned links, rules, routes and addresses in the network namespace
// in which it was opened. It is safe for use by several goroutines.
type Conn struct {
	mu     sync.Mutex
	handle *netlink.Handle // for the link
	bulk   *bulk.Conn      // for rules, routes and addresses, of which there may be thousands
	batch  bulk.Batch
	inet   int                    // a socket for IPv4 ioctls
	places map[netip.Prefix]place // of the rules of each family, as Read found; none: the first one

	removals pendingRemovals
}

var _ Kernel = (*Conn)(nil)

// Open connects to the kernel. Errors are those of socket(2).
func Open() (*Conn, error) {
	c := &Conn{inet: -1, places: map[netip.Prefix]place{}}
	if err := c.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("rtnetlink: %w", err), c.Close())
	}
	return c, nil
}

func (c *Conn) open() (err error) {
	if c.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if err = c.handle.SetSocketTimeout(timeout); err != nil {
		return err
	}
	if c.bulk, err = bulk.Dial(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	c.inet, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return err
}

// Close closes the connection. It must not be used afterwards.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.handle != nil {
		c.handle.Close()
	}
	if c.bulk != nil {
		errs = append(errs, c.bulk.Close())
	}
	if c.inet >= 0 {
		errs = append(errs, unix.Close(c.inet))
	}
	return errors.Join(errs...)
}

// Do implements Kernel. Its errors do not name their ops. Neighbouring ops on rules, routes and addresses share a batch.
// errors.Is matches os.ErrExist (a foreign route is in the way), os.ErrNotExist (the link is missing), os.ErrInvalid,
// os.ErrPermission and ErrNoIPv6.
func (c *Conn) Do(ctx context.Context, ops []Op) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(ops))
	for first := 0; first < len(ops); {
		last := first + 1
		if ops[first].Item.Kind == Link {
			errs[first] = c.doLink(ctx, ops[first])
		} else {
			for last < len(ops) && ops[last].Item.Kind != Link {
				last++
			}
			c.doBatch(ctx, ops[first:last], errs[first:last])
		}
		first = last
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

// doLink carries out an op on the link.
func (c *Conn) doLink(ctx context.Context, op Op) error {
	if err := errors.Join(ctx.Err(), op.check()); err != nil {
		return err
	}
	if op.Verb == Add {
		return op.Item.translate(c.addLink(ctx))
	}
	return op.Item.translate(c.delLink(ctx))
}
