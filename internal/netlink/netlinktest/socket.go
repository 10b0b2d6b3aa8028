// Package netlinktest simulates the kernel's side of a netlink socket.
package netlinktest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Socket is a netlink.Socket with a simulated kernel behind it. Like the kernel it answers at once: a refusal always,
// a success only where requested, and a dump with its end.
type Socket struct {
	// Handle carries out one request. It may send data with Request.Reply, and returns nil, a syscall.Errno or an
	// Echo. Without Handle nothing is answered.
	Handle func(Request) error

	DumpErrno syscall.Errno // at the end of every dump
	Sent      int           // number of requests so far

	queue [][]byte
}

// A Request is one message to the simulated kernel.
type Request struct {
	Type, Flags uint16
	Payload     []byte // behind the header
	Message     []byte // header and payload

	socket *Socket
}

// An Echo is a refusal that sends a whole message back, as ipset's do.
type Echo struct {
	Errno   syscall.Errno
	Message []byte
}

// Error returns the number's text.
func (e Echo) Error() string { return e.Errno.Error() }

// Send implements netlink.Socket.
func (s *Socket) Send(p []byte) error {
	for len(p) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(p))
		if n < unix.SizeofNlMsghdr || n > len(p) {
			return fmt.Errorf("message of %d bytes in %d: %w", n, len(p), unix.EINVAL)
		}
		s.Sent++
		if s.Handle != nil {
			r := Request{
				Type: binary.NativeEndian.Uint16(p[4:]), Flags: binary.NativeEndian.Uint16(p[6:]),
				Payload: p[unix.SizeofNlMsghdr:n:n], Message: p[:n:n], socket: s,
			}
			r.finish(s.Handle(r))
		}
		p = p[min((n+3)&^3, len(p)):]
	}
	return nil
}

// finish sends the end of the answer to a request.
func (r Request) finish(err error) {
	var errno syscall.Errno
	var echo Echo
	switch {
	case errors.As(err, &echo):
		r.Reply(unix.NLMSG_ERROR, 0, append(Errno(echo.Errno), echo.Message...))
		return
	case err != nil && !errors.As(err, &errno):
		panic(err)
	}
	switch {
	case errno == 0 && r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP:
		r.Reply(unix.NLMSG_DONE, unix.NLM_F_MULTI, Errno(r.socket.DumpErrno))
	case errno != 0 || r.Flags&unix.NLM_F_ACK != 0:
		r.Reply(unix.NLMSG_ERROR, unix.NLM_F_CAPPED, append(Errno(errno), r.Message[:unix.SizeofNlMsghdr]...))
	}
}

// Reply sends one message in answer to the request.
func (r Request) Reply(typ, flags uint16, payload []byte) {
	p := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = binary.NativeEndian.AppendUint16(p, flags)
	p = append(p, r.Message[8:12]...)                     // sequence number
	p = append(append(p, make([]byte, 4)...), payload...) // port 0: the kernel
	r.socket.queue = append(r.socket.queue, p)
}

// Errno encodes an error number as at the beginning of struct nlmsgerr.
func Errno(errno syscall.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

// Receive implements netlink.Socket. Without a queued message the error is the context's or os.ErrDeadlineExceeded.
func (s *Socket) Receive(ctx context.Context, p []byte) (int, error) {
	if len(s.queue) == 0 {
		return 0, errors.Join(ctx.Err(), os.ErrDeadlineExceeded)
	}
	n := copy(p, s.queue[0])
	s.queue = s.queue[1:]
	return n, nil
}

// Close implements netlink.Socket.
func (s *Socket) Close() error { return nil }
