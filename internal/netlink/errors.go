package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUnknown means that the kernel's state is unknown: its answer was lost, truncated, late or interrupted. Read the
// state back before going on.
var ErrUnknown = errors.New("outcome unknown")

// An Error is the kernel's refusal of one message. It unwraps to its Errno, so errors.Is matches the numbers of package
// unix as well as os.ErrExist, os.ErrNotExist and os.ErrPermission.
type Error struct {
	Errno syscall.Errno // above 4095 the numbers are the protocol's own, such as ipset's
	Text  string        // the kernel's explanation, or empty (NLMSGERR_ATTR_MSG)

	// Request is the refused message without its header, as far as the error carries it. Most protocols send nothing
	// back (the socket requests that, NETLINK_CAP_ACK); ipset sends all, with the failed line filled in.
	Request []byte
}

// Error returns the number's text, followed by the kernel's explanation if there is one.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return fmt.Sprintf("%v (%s)", e.Errno, e.Text)
}

// Unwrap returns the Errno.
func (e *Error) Unwrap() error { return e.Errno }

// parseError parses the payload of an NLMSG_ERROR (struct nlmsgerr). An acknowledgement is a nil error.
func parseError(flags uint16, p []byte) error {
	if len(p) < 4 {
		return fmt.Errorf("%w: error message of %d bytes: %w", ErrUnknown, len(p), ErrMalformed)
	}
	errno := int32(binary.NativeEndian.Uint32(p))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: syscall.Errno(-errno)}
	request, rest := splitRequest(flags, p[4:])
	e.Request = bytes.Clone(request)
	if flags&unix.NLM_F_ACK_TLVS != 0 {
		e.Text = extAckText(rest)
	}
	return e
}

// splitRequest splits the bytes after the number into the refused message's payload and the attributes behind it.
func splitRequest(flags uint16, p []byte) (request, rest []byte) {
	if len(p) < headerLen {
		return nil, nil
	}
	if flags&unix.NLM_F_CAPPED != 0 {
		return nil, p[headerLen:]
	}
	n := int64(binary.NativeEndian.Uint32(p))
	n = min(max(n, headerLen), int64(len(p)))
	return p[headerLen:n], p[min(align(int(n)), len(p)):]
}

func extAckText(p []byte) string {
	for a := Parse(p); a.Next(); {
		if a.Type() == unix.NLMSGERR_ATTR_MSG {
			return a.Text()
		}
	}
	return ""
}
