package netlink

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Query sends the one message of a batch and calls fn with the type and payload of each message of the reply. A dump
// is asked for with unix.NLM_F_DUMP in Begin. fn must copy what it keeps and must not use the connection. Its first
// error is returned, and the rest of the reply is read unseen.
//
// A refusal is an *Error. ErrUnknown says that what fn saw may be incomplete: an interrupted dump (NLM_F_DUMP_INTR), an
// error at its end, lost or cut replies, a context that was done meanwhile. Whatever the error, what fn saw is not to be
// used.
func (c *Conn) Query(ctx context.Context, b *Batch, fn func(typ uint16, payload []byte) error) error {
	if b.Len() != 1 {
		return fmt.Errorf("netlink query of %d messages", b.Len())
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	seq := c.seq
	c.seq++
	p := b.seal(0, 1, seq)
	c.reserve(len(p))
	if err := c.socket.Send(p); err != nil {
		return fmt.Errorf("netlink send: %w", err)
	}
	a := answer{seq: seq, fn: fn}
	for !a.done {
		p, err := c.receive(ctx)
		if err != nil {
			c.dirty = true
			return unknown(err)
		}
		a.take(p)
	}
	return a.err
}

// An answer is the reply to one message, as far as it was read.
type answer struct {
	seq  uint32
	fn   func(uint16, []byte) error
	err  error
	done bool
}

func (a *answer) take(p []byte) {
	m := walk{rest: p}
	for !a.done && m.next() {
		if m.seq != a.seq {
			continue
		}
		if m.flags&unix.NLM_F_DUMP_INTR != 0 {
			a.fail(fmt.Errorf("%w: dump interrupted", ErrUnknown))
		}
		a.message(&m)
	}
}

func (a *answer) message(m *walk) {
	switch m.typ {
	case unix.NLMSG_ERROR:
		a.done = true
		a.fail(parseError(m.flags, m.payload))
	case unix.NLMSG_DONE:
		a.done = true
		// The number is missing where the dump is of one message; then all is well.
		if len(m.payload) >= 4 && int32(binary.NativeEndian.Uint32(m.payload)) < 0 {
			a.fail(unknown(parseError(m.flags|unix.NLM_F_CAPPED, m.payload[:4])))
		}
	case unix.NLMSG_NOOP:
	case unix.NLMSG_OVERRUN:
		a.fail(fmt.Errorf("%w: NLMSG_OVERRUN", ErrUnknown))
	default:
		if a.err == nil {
			a.fail(a.fn(m.typ, m.payload))
		}
	}
}

func (a *answer) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}
