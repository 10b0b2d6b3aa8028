// Package netlink talks to the kernel in bulk: many messages in one send, an acknowledgement asked for only at the last,
// and the errors matched to their messages. The kernel goes on after a message that fails and always reports a failure
// (netlink_rcv_skb in net/netlink/af_netlink.c), so silence about a message before the acknowledged one is success.
//
// Encoding (Batch) and parsing (Attrs) allocate nothing per message.
package netlink

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Conn exchanges messages with the kernel. It is used by one goroutine at a time.
type Conn struct {
	socket Socket
	limits limits
	buf    []byte
	seq    uint32 // of the next message
	dirty  bool   // replies to what was given up may still come
}

// limits are the bytes that the kernel takes in one send, and those that unread replies may take on its side. They are
// what keeps replies from being lost.
type limits struct{ send, replies int }

const (
	// replyCost is what one small reply takes of a receive buffer: the default of 212,992 bytes holds 256.
	replyCost = 832
	// minBuffer is more than the 32 KiB that the kernel puts into a datagram of a dump.
	minBuffer = 64 << 10
)

// Dial opens a connection of a netlink protocol, such as unix.NETLINK_GENERIC, in the network namespace of the calling
// thread.
func Dial(protocol int) (*Conn, error) {
	s, l, err := dialSocket(protocol)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: s, limits: l}, nil
}

// New returns a connection over a socket, with the kernel's default limits.
func New(s Socket) *Conn {
	return &Conn{socket: s, limits: limits{send: 212_960, replies: 212_992}}
}

// Close closes the socket.
func (c *Conn) Close() error { return c.socket.Close() }

// Do sends all messages of a batch, in as few sends as are safe, and returns one error for each message, or nil if all
// went well. One that fails stops no other. Messages must not be ones that the kernel answers with data.
//
// A refusal is an *Error. ErrUnknown says that the kernel may or may not have carried the message out. Any other error
// says that the message was not sent: the context's if it was done before. The batch stays as it is, for another try.
func (c *Conn) Do(ctx context.Context, b *Batch) []error {
	r := results{n: b.Len()}
	for first := 0; first < r.n; {
		last := c.limits.cut(b, first)
		c.exchange(ctx, b, span{first, last}, &r)
		first = last
	}
	return r.errs
}

// cut returns the end of the longest row of messages from first on that is safe to send at once. It is never empty: a
// message that is too big by itself is the kernel's to refuse.
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

// A span is the messages first to last, not included, of a batch.
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

// acks collects the replies to a span whose first message has the sequence number seq, until that of its last.
func (c *Conn) acks(ctx context.Context, seq uint32, s span, r *results) error {
	n := uint32(s.last - s.first)
	for done := false; !done; {
		p, err := c.receive(ctx)
		if err != nil {
			return err
		}
		for m := (walk{rest: p}); m.next(); {
			i := m.seq - seq // far beyond n for a reply to what was given up
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

// ready says whether a message may be sent now. Replies to what was given up are thrown away first; they would fill the
// receive buffer, and a dump that was left keeps the kernel from starting another.
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

// reserve makes the buffer hold a reply to n bytes, which a protocol may send back whole.
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
