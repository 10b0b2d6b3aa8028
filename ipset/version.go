package ipset

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// versions are the lowest and the highest version of something that the kernel knows.
type versions struct{ min, max uint8 }

// ask sends the query in the batch, whose answer has the highest version in the attribute top.
func (c *Conn) ask(ctx context.Context, top uint16) (versions, error) {
	var v versions
	err := c.conn.Query(ctx, &c.batch, func(_ uint16, payload []byte) (err error) {
		v, err = parseVersions(payload, top)
		return err
	})
	return v, words(err)
}

func parseVersions(payload []byte, top uint16) (versions, error) {
	if len(payload) < nfgenLen {
		return versions{}, fmt.Errorf("versions in %d bytes: %w", len(payload), netlink.ErrMalformed)
	}
	var v versions
	a := netlink.Parse(payload[nfgenLen:])
	for a.Next() {
		switch a.Type() {
		case top:
			v.max = a.Uint8()
		case attrVersionMin:
			v.min = a.Uint8()
		}
	}
	return v, a.Err()
}

// agree finds the version of the protocol that this package and the kernel both speak.
func (c *Conn) agree(ctx context.Context) error {
	c.begin(cmdProtocol, 0, "")
	c.batch.End()
	theirs, err := c.ask(ctx, attrProtocol)
	switch {
	case errors.Is(err, unix.EINVAL): // nfnetlink_rcv_msg: no such subsystem
		return fmt.Errorf("%w: the kernel has no sets (module ip_set)", errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("protocol: %w", err)
	case theirs.min > protocolMax || theirs.max < protocolMin:
		return fmt.Errorf("the kernel speaks protocol %d to %d: %w", theirs.min, theirs.max, errors.ErrUnsupported)
	}
	c.protocol = min(protocolMax, theirs.max)
	return nil
}

// revision returns the revision to create a set with: the lowest that has what is needed and that the kernel knows.
func (c *Conn) revision(ctx context.Context, s Set) (uint8, error) {
	if r, ok := c.revisions[s.Type]; ok {
		return r, nil
	}
	c.begin(cmdType, 0, "")
	c.batch.Text(attrTypeName, string(s.Type))
	c.batch.Uint8(attrFamily, uint8(s.Family))
	c.batch.End()
	theirs, err := c.ask(ctx, attrRevision)
	if err != nil {
		return 0, fmt.Errorf("set type %s: %w", s.Type, err)
	}
	want := s.Type.revision()
	if theirs.max < want {
		return 0, fmt.Errorf("set type %s: the kernel has revision %d, and marks (skbinfo) came with %d: %w",
			s.Type, theirs.max, want, errors.ErrUnsupported)
	}
	c.revisions[s.Type] = max(want, theirs.min)
	return c.revisions[s.Type], nil
}
