package netlink

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Query sends the one message of a batch and calls fn with the type and payload of each message of the reply. Begin
// with unix.NLM_F_DUMP requests a dump. fn must copy data that it keeps and must not use the connection. Its first
// error is returned, and the rest of the reply is discarded.
//
// A refusal is an *Error. ErrUnknown means that the reply may be incomplete: an interrupted dump (NLM_F_DUMP_INTR), an
// error at its end, lost or truncated replies, a context that was done meanwhile. After any error the data that fn saw
// must not be used.
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
	r := response{seq: seq, fn: fn}
	for !r.done {
		p, err := c.receive(ctx)
		if err != nil {
			c.dirty = true
			return unknown(err)
		}
		r.take(p)
	}
	return r.err
}

// A response is the progress of reading the reply to one message.
type response struct {
	seq  uint32
	fn   func(uint16, []byte) error
	err  error
	done bool
}

func (r *response) take(p []byte) {
	m := walk{rest: p}
	for !r.done && m.next() {
		if m.seq != r.seq {
			continue
		}
		if m.flags&unix.NLM_F_DUMP_INTR != 0 {
			r.fail(fmt.Errorf("%w: dump interrupted", ErrUnknown))
		}
		r.message(&m)
	}
}

func (r *response) message(m *walk) {
	switch m.typ {
	case unix.NLMSG_ERROR:
		r.done = true
		r.fail(parseError(m.flags, m.payload))
	case unix.NLMSG_DONE:
		r.done = true
		// A dump of one message may end without a number, which is success.
		if len(m.payload) >= 4 && int32(binary.NativeEndian.Uint32(m.payload)) < 0 {
			r.fail(unknown(parseError(m.flags|unix.NLM_F_CAPPED, m.payload[:4])))
		}
	case unix.NLMSG_NOOP:
	case unix.NLMSG_OVERRUN:
		r.fail(fmt.Errorf("%w: NLMSG_OVERRUN", ErrUnknown))
	default:
		if r.err == nil {
			r.fail(r.fn(m.typ, m.payload))
		}
	}
}

func (r *response) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
