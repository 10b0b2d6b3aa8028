package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Port returns the kernel's number for this connection (nl_pid, see netlink(7)). Notifications of changes made over it
// carry the number in their header, if the protocol fills it in. The error is errors.ErrUnsupported over a simulated
// socket.
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
