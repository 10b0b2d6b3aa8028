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

// Conn is the running kernel's table, in the network namespace of the thread that opened it. It is safe for use by
// several goroutines.
type Conn struct {
	mu            sync.Mutex // guards the next fields: one exchange at a time
	nl            *netlink.Conn
	get, deletion netlink.Batch

	dumps, seen, deleted atomic.Uint64
}

var _ Kernel = (*Conn)(nil)

// Stats counts the work of a Conn since it was opened.
type Stats struct {
	Dumps   uint64 // dumps requested
	Seen    uint64 // flows that the kernel sent
	Deleted uint64 // flows that were deleted
}

// Open connects to the running kernel. Errors are those of socket(2), such as unix.EPROTONOSUPPORT.
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

// Stats returns the connection's counters.
func (c *Conn) Stats() Stats {
	return Stats{Dumps: c.dumps.Load(), Seen: c.seen.Load(), Deleted: c.deleted.Load()}
}

// Delete implements Kernel. Errors are the kernel's, such as os.ErrPermission without CAP_NET_ADMIN.
func (c *Conn) Delete(ctx context.Context, list []Frontend) (deleted int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, q := range queries(list) {
		n, err := c.run(ctx, q)
		deleted += n
		errs = append(errs, err)
	}
	c.deleted.Add(uint64(deleted))
	if err := errors.Join(errs...); err != nil {
		return deleted, fmt.Errorf("delete tracked flows: %w", err)
	}
	return deleted, nil
}

// run deletes the stale flows of one dump.
func (c *Conn) run(ctx context.Context, q query) (deleted int, err error) {
	err = c.dump(ctx, q)
	if refused := (*netlink.Error)(nil); errors.As(err, &refused) && !errors.Is(err, netlink.ErrUnknown) {
		q.only = filter{} // perhaps it was the filter; without it the refusal is final
		err = c.dump(ctx, q)
	}
	if err != nil {
		return 0, err
	}
	return c.deleteStale(ctx)
}

// dump encodes the deletion of stale flows while the kernel sends them.
func (c *Conn) dump(ctx context.Context, q query) error {
	c.get.Reset()
	c.deletion.Reset()
	q.appendTo(&c.get)
	c.dumps.Add(1)
	return c.nl.Query(ctx, &c.get, func(_ uint16, p []byte) error {
		c.seen.Add(1)
		t, err := parseFlow(p)
		if err == nil && q.wanted.stale(t.Flow) {
			appendDelete(&c.deletion, q.family, t)
		}
		return err
	})
}

// deleteStale sends the deletions. It does not count a flow that has ended or been replaced meanwhile.
func (c *Conn) deleteStale(ctx context.Context) (deleted int, err error) {
	errs := c.nl.Do(ctx, &c.deletion)
	if errs == nil {
		return c.deletion.Len(), nil
	}
	var failed []error
	for _, err := range errs {
		switch {
		case err == nil:
			deleted++
		case !errors.Is(err, unix.ENOENT):
			failed = append(failed, err)
		}
	}
	return deleted, errors.Join(failed...)
}
