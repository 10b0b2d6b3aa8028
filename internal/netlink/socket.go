package netlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket carries datagrams of netlink messages to and from the kernel. Tests simulate the kernel behind it (package
// netlinktest).
type Socket interface {
	// Send sends one datagram. After an error the kernel has not seen any of it.
	Send([]byte) error

	// Receive reads one datagram into p and returns its length. A datagram that fills p may have been longer. A
	// queued datagram is returned even if the context is done; without one the error is the context's.
	// unix.ENOBUFS means that datagrams were lost, os.ErrDeadlineExceeded that none arrived within a timeout.
	Receive(ctx context.Context, p []byte) (int, error)

	// Close closes the socket.
	Close() error
}

const (
	// receiveBuffer is the requested size, in bytes; the granted size bounds a send.
	receiveBuffer = 4 << 20
	// timeout bounds the wait for a reply. The kernel answers before a send returns, so it only guards against the
	// unexpected.
	timeout = 10 * time.Second
	// pollSlice bounds the delay until a wait notices that its context is done.
	pollSlice = 50 * time.Millisecond
)

// A fileSocket is a non-blocking netlink socket of the kernel. It stays in the network namespace in which it was opened.
type fileSocket struct{ fd int }

// dialSocket opens a socket and returns it with its limits.
func dialSocket(protocol int) (*fileSocket, limits, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, limits{}, fmt.Errorf("netlink socket of protocol %d: %w", protocol, err)
	}
	s := &fileSocket{fd: fd}
	l, err := s.setUp()
	if err != nil {
		return nil, limits{}, errors.Join(fmt.Errorf("netlink socket of protocol %d: %w", protocol, err), s.Close())
	}
	return s, l, nil
}

func (s *fileSocket) setUp() (limits, error) {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// Refused in a user namespace. The system's limit applies then; the granted size is read below.
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	for _, opt := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, opt, 1); err != nil {
			return limits{}, fmt.Errorf("setsockopt(SOL_NETLINK, %d): %w", opt, err)
		}
	}
	// Connected to port 0, the kernel, the socket refuses messages from other programs.
	if err := unix.Connect(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return limits{}, fmt.Errorf("connect: %w", err)
	}
	receive, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return limits{}, fmt.Errorf("getsockopt(SO_RCVBUF): %w", err)
	}
	send, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return limits{}, fmt.Errorf("getsockopt(SO_SNDBUF): %w", err)
	}
	return limits{replies: receive, send: send - 32}, nil // netlink_sendmsg keeps 32 bytes for itself
}

// Send implements Socket. The kernel carries out all messages before it returns.
func (s *fileSocket) Send(p []byte) error {
	for {
		_, err := unix.Write(s.fd, p)
		if err != unix.EINTR {
			return err
		}
	}
}

// Receive implements Socket.
func (s *fileSocket) Receive(ctx context.Context, p []byte) (int, error) {
	var deadline time.Time
	for {
		n, err := unix.Read(s.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != unix.EAGAIN:
			return n, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case deadline.IsZero():
			deadline = time.Now().Add(timeout)
		case time.Now().After(deadline):
			return 0, os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(pollSlice/time.Millisecond)); err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("poll: %w", err)
		}
	}
}

// Close implements Socket.
func (s *fileSocket) Close() error { return unix.Close(s.fd) }
