package netlink

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// genlHeaderLen is the size of struct genlmsghdr, the header before the attributes of every generic netlink message.
const genlHeaderLen = unix.GENL_HDRLEN

// BeginGeneric starts a message of a generic netlink family with its header: a command and the family's version.
func (b *Batch) BeginGeneric(family uint16, flags uint16, cmd, version uint8) {
	b.Begin(family, flags)
	b.Raw(cmd, version, 0, 0)
}

// ParseGeneric returns an iterator over the attributes of a generic netlink message's payload.
func ParseGeneric(payload []byte) Attrs {
	if len(payload) < genlHeaderLen {
		return Attrs{bad: true}
	}
	return Parse(payload[genlHeaderLen:])
}

// netfilterHeaderLen is the size of struct nfgenmsg, the header before the attributes of every netfilter message.
const netfilterHeaderLen = 4

// BeginNetfilter starts a message of a netfilter type, which is NFNL_SUBSYS_*<<8 and a command, with its header: an address family.
func (b *Batch) BeginNetfilter(typ, flags uint16, family uint8) {
	b.Begin(typ, flags)
	b.Raw(family, unix.NFNETLINK_V0, 0, 0)
}

// ParseNetfilter returns an iterator over the attributes of a netfilter message's payload.
func ParseNetfilter(payload []byte) Attrs {
	if len(payload) < netfilterHeaderLen {
		return Attrs{bad: true}
	}
	return Parse(payload[netfilterHeaderLen:])
}

// Family returns the kernel's current number of a generic netlink family, never 0; reloading the module changes it. The
// error is os.ErrNotExist if there is no such family.
func (c *Conn) Family(ctx context.Context, name string) (uint16, error) {
	var b Batch
	b.BeginGeneric(unix.GENL_ID_CTRL, 0, unix.CTRL_CMD_GETFAMILY, 1)
	b.Text(unix.CTRL_ATTR_FAMILY_NAME, name)
	b.End()
	var id uint16
	err := c.Query(ctx, &b, func(_ uint16, p []byte) error {
		a := ParseGeneric(p)
		for a.Next() {
			if a.Type() == unix.CTRL_ATTR_FAMILY_ID {
				id = a.Uint16()
			}
		}
		return a.Err()
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("generic netlink family %s: %w", name, err)
	case id < unix.GENL_MIN_ID:
		return 0, fmt.Errorf("generic netlink family %s: number %d: %w", name, id, os.ErrNotExist)
	}
	return id, nil
}
