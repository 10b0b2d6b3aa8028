package ipset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// A Conn is a Kernel over netlink: the running kernel's sets in the network namespace in which it was opened. It is safe
// for use by several goroutines. It is not github.com/vishvananda/netlink, which has neither the marks of skbinfo nor
// several members in a message.
type Conn struct {
	mu        sync.Mutex
	conn      *netlink.Conn
	batch     netlink.Batch
	protocol  uint8
	revisions map[Type]uint8
}

var _ Kernel = (*Conn)(nil)

// Open connects to the kernel. The error is errors.ErrUnsupported if the kernel has no sets or none of the protocol
// versions 6 and 7 (Linux 3.0 and newer have one), and os.ErrPermission without CAP_NET_ADMIN.
func Open() (*Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("%w: the kernel has no nfnetlink (module nfnetlink): %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ipset: %w", err)
	}
	c := newConn(conn)
	if err := c.agree(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("ipset: %w", err), conn.Close())
	}
	return c, nil
}

// newConn returns a connection before the agreement with the kernel on a version of the protocol.
func newConn(conn *netlink.Conn) *Conn {
	return &Conn{conn: conn, protocol: protocolMax, revisions: make(map[Type]uint8)}
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}

// Create implements Kernel.
func (c *Conn) Create(ctx context.Context, s Set) error {
	if err := s.check(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	revision, err := c.revision(ctx, s)
	if err != nil {
		return err
	}
	c.begin(cmdCreate, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Name)
	c.batch.Text(attrTypeName, string(s.Type))
	c.batch.Uint8(attrRevision, revision)
	c.batch.Uint8(attrFamily, uint8(s.Family))
	nest := c.batch.Nest(attrData)
	c.batch.Uint32BE(attrMaxElem|netOrder, MaxElem)
	if s.Marks {
		c.batch.Uint32BE(attrDataFlags|netOrder, flagWithSkbInfo)
	}
	c.batch.Unnest(nest)
	c.batch.End()
	err = errors.Join(c.conn.Do(ctx, &c.batch)...)
	if errors.Is(err, unix.EEXIST) {
		return c.compare(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("create set %s: %w", s.Name, translate(err))
	}
	return nil
}

// Destroy implements Kernel.
func (c *Conn) Destroy(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin(cmdDestroy, 0, name)
	c.batch.End()
	err := errors.Join(c.conn.Do(ctx, &c.batch)...)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("destroy set %s: %w", name, translate(err))
	}
	return nil
}

// Names implements Kernel.
func (c *Conn) Names(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	err := c.list(ctx, "", flagListNames, func(h header) error {
		names = append(names, h.name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list set names: %w", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Read implements Kernel. For a set of another type or family the error is os.ErrExist, as in Create.
func (c *Conn) Read(ctx context.Context, s Set) (map[Member]Mark, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := make(map[Member]Mark)
	err := c.list(ctx, s.Name, 0, func(h header) error {
		if h.typ != "" && (h.typ != s.Type || h.family != s.Family) {
			return fmt.Errorf("%w as %s of %v", os.ErrExist, h.typ, h.family)
		}
		return h.into(members, s.Type)
	})
	if err != nil {
		return nil, fmt.Errorf("read set %s: %w", s.Name, err)
	}
	return members, nil
}

func (h header) into(members map[Member]Mark, typ Type) error {
	for h.members.Next() {
		m, mark, err := parseMember(h.members.Nested(), typ)
		if err != nil {
			return err
		}
		members[m] = mark
	}
	return h.members.Err()
}

// compare returns nil if the kernel's set of that name can be used as s, or os.ErrExist.
func (c *Conn) compare(ctx context.Context, s Set) error {
	err := c.list(ctx, s.Name, flagListHeader, func(h header) error {
		d, err := h.definition()
		if err != nil {
			return err
		}
		return d.satisfies(s)
	})
	if err != nil {
		return fmt.Errorf("create set: %w", err)
	}
	return nil
}

// list dumps one set, or all if name is empty. An interrupted dump is an error.
func (c *Conn) list(ctx context.Context, name string, flags uint32, each func(header) error) error {
	c.begin(cmdList, unix.NLM_F_DUMP, name)
	if flags != 0 {
		c.batch.Uint32BE(attrFlags|netOrder, flags)
	}
	c.batch.End()
	return translate(c.conn.Query(ctx, &c.batch, func(_ uint16, payload []byte) error {
		h, err := parseHeader(payload)
		if err != nil {
			return err
		}
		return each(h)
	}))
}

// begin starts a batch of one command, for a set if name is not empty.
func (c *Conn) begin(cmd uint16, flags uint16, name string) {
	c.batch.Reset()
	c.add(cmd, flags, name)
}

// add starts one more command.
func (c *Conn) add(cmd uint16, flags uint16, name string) {
	c.batch.BeginNetfilter(subsystem<<8|cmd, flags, unix.AF_INET)
	c.batch.Uint8(attrProtocol, c.protocol)
	if name != "" {
		c.batch.Text(attrSetName, name)
	}
}
