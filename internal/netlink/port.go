package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Port returns the number (nl_pid, see netlink(7)) by which the kernel knows this connection. A notification of a change
// that was made over it carries the number in the header, as far as the protocol cares to say. The error is
// errors.ErrUnsupported if the connection's socket is not the kernel's.
func (c *Conn) Port() (uint32, error) {
	s, ok := c.socket.(*fileSocket)
	if !ok {
		return 0, fmt.Errorf("netlink port: %w", errors.ErrUnsupported)
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, fmt.Errorf("netlink port: %w", err)
	}
	address, ok := sa.(*unix.SockaddrNetlink)
	if !ok {
		return 0, fmt.Errorf("netlink port: %w", errors.ErrUnsupported)
	}
	return address.Pid, nil
}
