package conntrack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// Conn is the running kernel's table, in the network namespace of the thread that opened it. It may be used by many
// goroutines.
type Conn struct {
	mu        sync.Mutex // guards what follows: one exchange at a time
	nl        *netlink.Conn
	ask, gone netlink.Batch

	dumps, seen, deleted atomic.Uint64
}

var _ Kernel = (*Conn)(nil)

// Stats counts what a Conn did since it was opened.
type Stats struct {
	Dumps   uint64 // dumps asked for
	Seen    uint64 // flows that the kernel sent
	Deleted uint64 // flows that were deleted
}

// Open connects to the running kernel.
func Open() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return &Conn{nl: nl}, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nl.Close()
}

// Stats returns what the connection did so far.
func (c *Conn) Stats() Stats {
	return Stats{Dumps: c.dumps.Load(), Seen: c.seen.Load(), Deleted: c.deleted.Load()}
}

// Delete implements Kernel. The errors are the kernel's, such as os.ErrPermission without CAP_NET_ADMIN.
func (c *Conn) Delete(ctx context.Context, list []Frontend) (deleted int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, q := range questions(list) {
		n, err := c.answer(ctx, q)
		deleted += n
		errs = append(errs, err)
	}
	c.deleted.Add(uint64(deleted))
	if err := errors.Join(errs...); err != nil {
		return deleted, fmt.Errorf("delete tracked flows: %w", err)
	}
	return deleted, nil
}

// answer deletes the flows of one dump that are astray.
func (c *Conn) answer(ctx context.Context, q question) (deleted int, err error) {
	err = c.dump(ctx, q)
	if refused := (*netlink.Error)(nil); errors.As(err, &refused) && !errors.Is(err, netlink.ErrUnknown) {
		q.only = filter{} // perhaps it was the filter; without it the refusal is final
		err = c.dump(ctx, q)
	}
	if err != nil {
		return 0, err
	}
	return c.deleteGone(ctx)
}

// dump encodes the deletion of what is astray while the kernel sends it.
func (c *Conn) dump(ctx context.Context, q question) error {
	c.ask.Reset()
	c.gone.Reset()
	q.appendTo(&c.ask)
	c.dumps.Add(1)
	return c.nl.Query(ctx, &c.ask, func(_ uint16, p []byte) error {
		c.seen.Add(1)
		t, err := parseFlow(p)
		if err == nil && q.wanted.astray(t.Flow) {
			appendDelete(&c.gone, q.family, t)
		}
		return err
	})
}

// deleteGone sends the deletions. A flow that went meanwhile, or became another one, is not counted.
func (c *Conn) deleteGone(ctx context.Context) (deleted int, err error) {
	errs := c.nl.Do(ctx, &c.gone)
	if errs == nil {
		return c.gone.Len(), nil
	}
	var left []error
	for _, err := range errs {
		switch {
		case err == nil:
			deleted++
		case !errors.Is(err, unix.ENOENT):
			left = append(left, err)
		}
	}
	return deleted, errors.Join(left...)
}
