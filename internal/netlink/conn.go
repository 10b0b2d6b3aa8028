// Package netlink talks to the kernel in bulk: many messages in one send, an acknowledgement requested only for the
// last, and the errors matched to their messages. The kernel continues after a failed message and always reports a
// failure (netlink_rcv_skb in net/netlink/af_netlink.c), so silence about a message before the acknowledged one is
// success.
//
// Encoding (Batch) and parsing (Attrs) allocate nothing per message. That is the reason not to use
// github.com/mdlayher/netlink: it acknowledges and allocates each message, 2,800 ns against 100, and cannot tell an
// unknown outcome (ErrUnknown) from a refusal.
package netlink

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Conn exchanges messages with the kernel. It may be used by one goroutine at a time.
type Conn struct {
	socket Socket
	limits limits
	buf    []byte
	seq    uint32 // of the next message
	dirty  bool   // replies to an abandoned request may still arrive
}

// limits bound one send and the kernel's buffer for its unread replies, in bytes, so that no reply is lost.
type limits struct{ send, replies int }

const (
	// replyCost is one small reply's share of a receive buffer: the default of 212,992 bytes holds 256.
	replyCost = 832
	// minBuffer exceeds the kernel's 32 KiB for a datagram of a dump.
	minBuffer = 64 << 10
)

// Dial opens a connection of a netlink protocol, such as unix.NETLINK_GENERIC, in the network namespace of the calling
// thread. Errors are those of socket(2), such as unix.EPROTONOSUPPORT.
func Dial(protocol int) (*Conn, error) {
	s, l, err := dialSocket(protocol)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: s, limits: l}, nil
}

// New returns a connection over a socket, with the kernel's default limits. It serves tests with a simulated kernel.
func New(s Socket) *Conn {
	return &Conn{socket: s, limits: limits{send: 212_960, replies: 212_992}}
}

// Close closes the socket.
func (c *Conn) Close() error { return c.socket.Close() }

// Do sends all messages of a batch, in as few sends as are safe, and returns one error for each message, or nil if all
// succeeded. A failed message does not stop the others. Messages that the kernel answers with data belong to Query.
//
// A refusal is an *Error. After ErrUnknown the kernel may or may not have carried the message out. After any other
// error the message was not sent; it is the context's if that was done before. The batch may be sent again.
func (c *Conn) Do(ctx context.Context, b *Batch) []error {
	r := results{n: b.Len()}
	for first := 0; first < r.n; {
		last := c.limits.cut(b, first)
		c.exchange(ctx, b, span{first, last}, &r)
		first = last
	}
	return r.errs
}

// cut returns the end of the longest run of messages from first on that is safe to send at once. The run is never
// empty: refusing a single message as too big is left to the kernel.
func (l limits) cut(b *Batch, first int) int {
	replies, start := 0, b.starts[first]
	last := first
	for ; last < b.Len(); last++ {
		// A protocol may send a refused message back, in a buffer up to twice its size.
		replies += replyCost + 2*(b.end(last)-b.starts[last])
		if last > first && (b.end(last)-start > l.send || replies > l.replies) {
			break
		}
	}
	return last
}

// A span is a range of a batch's messages: from first up to but not including last.
type span struct{ first, last int }

func (c *Conn) exchange(ctx context.Context, b *Batch, s span, r *results) {
	if err := c.ready(ctx); err != nil {
		r.fill(s, err)
		return
	}
	seq := c.seq
	c.seq += uint32(s.last - s.first)
	p := b.seal(s.first, s.last, seq)
	c.reserve(len(p))
	if err := c.socket.Send(p); err != nil {
		r.fill(s, fmt.Errorf("netlink send of %d messages: %w", s.last-s.first, err))
		return
	}
	if err := c.acks(ctx, seq, s, r); err != nil {
		c.dirty = true
		r.fill(s, unknown(err))
	}
}

// acks collects the replies to a span up to the acknowledgement of its last message; seq is the sequence number of its
// first.
func (c *Conn) acks(ctx context.Context, seq uint32, s span, r *results) error {
	n := uint32(s.last - s.first)
	for done := false; !done; {
		p, err := c.receive(ctx)
		if err != nil {
			return err
		}
		for m := (walk{rest: p}); m.next(); {
			i := m.seq - seq // far beyond n for a reply to an abandoned request
			if i >= n || m.typ != unix.NLMSG_ERROR {
				continue
			}
			if err := parseError(m.flags, m.payload); err != nil {
				r.set(s.first+int(i), err)
			}
			done = done || i == n-1
		}
	}
	return nil
}

// ready prepares for a send: it discards replies to an abandoned request. They would fill the receive buffer, and an
// unfinished dump keeps the kernel from starting another.
func (c *Conn) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil || !c.dirty {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	for c.dirty {
		c.reserve(0)
		_, err := c.socket.Receive(done, c.buf)
		switch {
		case errors.Is(err, context.Canceled):
			c.dirty = false
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("netlink receive: %w", err)
		}
	}
	return nil
}

// reserve makes room for the reply to n bytes; a protocol may send them all back.
func (c *Conn) reserve(n int) {
	if n = max(minBuffer, n+replyCost); len(c.buf) < n {
		c.buf = make([]byte, n)
	}
}

func (c *Conn) receive(ctx context.Context) ([]byte, error) {
	n, err := c.socket.Receive(ctx, c.buf)
	if err != nil {
		return nil, fmt.Errorf("netlink receive: %w", err)
	}
	if n >= len(c.buf) {
		return nil, fmt.Errorf("netlink receive: reply longer than %d bytes", len(c.buf)-1)
	}
	return c.buf[:n], nil
}

func unknown(err error) error { return fmt.Errorf("%w: %w", ErrUnknown, err) }
