package ipset

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// versions is a range of versions that the kernel supports.
type versions struct{ min, max uint8 }

// versions sends the query in the batch. The reply has the highest version in the attribute top.
func (c *Conn) versions(ctx context.Context, top uint16) (versions, error) {
	var v versions
	err := c.conn.Query(ctx, &c.batch, func(_ uint16, payload []byte) (err error) {
		v, err = parseVersions(payload, top)
		return err
	})
	return v, translate(err)
}

func parseVersions(payload []byte, top uint16) (versions, error) {
	var v versions
	a := netlink.ParseNetfilter(payload)
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

// agree chooses the protocol version: the highest common to this package and the kernel.
func (c *Conn) agree(ctx context.Context) error {
	c.begin(cmdProtocol, 0, "")
	c.batch.End()
	kernel, err := c.versions(ctx, attrProtocol)
	switch {
	case errors.Is(err, unix.EINVAL): // nfnetlink_rcv_msg: no such subsystem
		return fmt.Errorf("%w: the kernel has no sets (module ip_set)", errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("protocol: %w", err)
	case kernel.min > protocolMax || kernel.max < protocolMin:
		return fmt.Errorf("the kernel has protocol %d to %d: %w", kernel.min, kernel.max, errors.ErrUnsupported)
	}
	c.protocol = min(protocolMax, kernel.max)
	return nil
}

// revision returns the revision for creating a set: the lowest sufficient one that the kernel supports.
func (c *Conn) revision(ctx context.Context, s Set) (uint8, error) {
	if r, ok := c.revisions[s.Type]; ok {
		return r, nil
	}
	c.begin(cmdType, 0, "")
	c.batch.Text(attrTypeName, string(s.Type))
	c.batch.Uint8(attrFamily, uint8(s.Family))
	c.batch.End()
	kernel, err := c.versions(ctx, attrRevision)
	if err != nil {
		return 0, fmt.Errorf("set type %s: %w", s.Type, err)
	}
	want := s.Type.revision()
	if kernel.max < want {
		return 0, fmt.Errorf("set type %s: the kernel has revision %d, and marks (skbinfo) came with %d: %w",
			s.Type, kernel.max, want, errors.ErrUnsupported)
	}
	c.revisions[s.Type] = max(want, kernel.min)
	return c.revisions[s.Type], nil
}
