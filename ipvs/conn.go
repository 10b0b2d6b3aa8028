package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// Conn is the running kernel's table, in the network namespace of the thread that opened it. Threads that read it must
// be in the same one. It is safe for use by several goroutines.
type Conn struct {
	mu     sync.Mutex // guards the next fields: one exchange at a time
	nl     *netlink.Conn
	batch  netlink.Batch
	family uint16 // the kernel's number for IPVS; reloading the module changes it
	older  int    // a socket for the older interface, kept from the first Count on; -1: none yet

	listing  func() (io.ReadCloser, error) // opens /proc/net/ip_vs
	messages atomic.Uint64
	dumps    atomic.Uint64
	errors   atomic.Uint64
}

var _ Kernel = (*Conn)(nil)

// Stats counts the work of a Conn since it was opened.
type Stats struct {
	Messages uint64 // messages sent
	Dumps    uint64 // dumps requested, readings of /proc/net/ip_vs included
	Errors   uint64 // refused messages and failed dumps
}

// Open connects to the running kernel. The error is ErrNoModule if the kernel has no IPVS, and os.ErrPermission without
// CAP_NET_ADMIN.
func Open() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("ipvs: %w", err)
	}
	c, err := open(nl, openListing)
	if err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	return c, nil
}

func open(nl *netlink.Conn, listing func() (io.ReadCloser, error)) (*Conn, error) {
	c := &Conn{nl: nl, listing: listing, older: -1}
	if err := c.resolve(context.Background()); err != nil {
		return nil, err
	}
	version, err := c.version(context.Background())
	if err != nil {
		return nil, fmt.Errorf("ipvs: GET_INFO: %w", err)
	}
	if version < oldestVersion {
		return nil, fmt.Errorf("ipvs: version %d.%d.%d of the kernel's table is too old", version>>16, version>>8&0xff, version&0xff)
	}
	return c, nil
}

// Close closes the connection. The table stays as it is.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.nl.Close()
	if c.older >= 0 {
		err = errors.Join(err, unix.Close(c.older))
	}
	return err
}

// Stats returns the connection's counters.
func (c *Conn) Stats() Stats {
	return Stats{Messages: c.messages.Load(), Dumps: c.dumps.Load(), Errors: c.errors.Load()}
}

// Do implements Kernel.
//
// The kernel sets a deleted real server aside for two minutes, and every AddReal searches all of those
// (ip_vs_trash_get_dest in net/netfilter/ipvs/ip_vs_ctl.c). Adding 100,000 real servers after deleting as many takes
// milliseconds each: change a table in place.
func (c *Conn) Do(ctx context.Context, ops []Op) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	answers := c.send(ctx, ops)
	if missing := indexes(answers, unix.ENOENT); missing != nil {
		c.retry(ctx, ops, answers, missing)
	}
	errs := opErrors(ops, func(i int) error {
		if answers == nil {
			return nil
		}
		return answers[i]
	})
	for _, err := range errs {
		if err != nil {
			c.errors.Add(1)
		}
	}
	return errs
}

// perBatch bounds the memory of a batch, in messages. Larger batches are not faster.
const perBatch = 1024

// send encodes and sends the ops and returns the kernel's answers, or nil if all succeeded.
func (c *Conn) send(ctx context.Context, ops []Op) (answers []error) {
	c.messages.Add(uint64(len(ops)))
	sent := 0
	for chunk := range slices.Chunk(ops, perBatch) {
		c.batch.Reset()
		for _, op := range chunk {
			appendOp(&c.batch, c.family, op)
		}
		if errs := c.nl.Do(ctx, &c.batch); errs != nil {
			if answers == nil {
				answers = make([]error, len(ops))
			}
			copy(answers[sent:], errs)
		}
		sent += len(chunk)
	}
	return answers
}

// retry sends the ops that failed with ENOENT once more if the missing object was the family: the module was reloaded
// and has another number.
func (c *Conn) retry(ctx context.Context, ops []Op, errs []error, missing []int) {
	changed, err := c.changed(ctx)
	if err == nil && !changed {
		return
	}
	var retried []Op
	for _, i := range missing {
		errs[i] = err
		retried = append(retried, ops[i])
	}
	if err != nil {
		return
	}
	for i, err := range c.send(ctx, retried) {
		errs[missing[i]] = err
	}
}

// changed resolves the family again and reports whether its number has changed.
func (c *Conn) changed(ctx context.Context) (bool, error) {
	before := c.family
	err := c.resolve(ctx)
	return c.family != before, err
}

func (c *Conn) resolve(ctx context.Context) error {
	family, err := c.nl.Family(ctx, familyName)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ipvs: %w: %v", ErrNoModule, err) // not os.ErrNotExist: that is about servers
	}
	if err != nil {
		return fmt.Errorf("ipvs: %w", err)
	}
	c.family = family
	return nil
}

func (c *Conn) version(ctx context.Context) (version uint32, err error) {
	c.batch.Reset()
	c.batch.BeginGeneric(c.family, 0, cmdGetInfo, familyVersion)
	c.batch.End()
	err = c.query(ctx, func(_ uint16, p []byte) error {
		a := netlink.ParseGeneric(p)
		for a.Next() {
			if a.Type() == attrInfoVersion {
				version = a.Uint32()
			}
		}
		return a.Err()
	})
	return version, err
}

// query sends the query in the batch.
func (c *Conn) query(ctx context.Context, fn func(uint16, []byte) error) error {
	c.messages.Add(1)
	err := c.nl.Query(ctx, &c.batch, fn)
	if err != nil {
		c.errors.Add(1)
	}
	return err
}
