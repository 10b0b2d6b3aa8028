// Package sockopt reads socket options that are structures.
package sockopt

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Get reads an option of a socket into value, whose type must be laid out as the kernel's structure. For an option with
// arguments, such as the name of a table, value holds them beforehand. The error is a unix.Errno.
func Get[T any](fd, level, name int, value *T) error {
	size := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
