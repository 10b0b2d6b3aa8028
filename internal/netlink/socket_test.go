package netlink

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel acknowledges messages of type NLMSG_NOOP of anybody, so the real socket needs no privilege.
func TestRealSocket(t *testing.T) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if errs := c.Do(t.Context(), noops(20_000)); errs != nil {
		t.Errorf("20,000 empty messages: %v", errors.Join(errs...))
	}
	if id, err := c.Family(t.Context(), "nlctrl"); id != unix.GENL_ID_CTRL || err != nil {
		t.Errorf("family nlctrl: %d, %v; want %d", id, err, unix.GENL_ID_CTRL)
	}
	if id, err := c.Family(t.Context(), "no-such"); id != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("family no-such: %d, %v; want os.ErrNotExist", id, err)
	}
}

// Replies never overflow, even where all messages fail and the buffer is the system's default.
func TestRealSocketAllRefused(t *testing.T) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := unix.SetsockoptInt(c.socket.(*fileSocket).fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 212_992/2); err != nil {
		t.Fatal(err)
	}
	c.limits.replies = 212_992
	var b Batch
	for range 2_000 {
		b.BeginGeneric(0xffff, 0, 1, 1)
		b.End()
	}
	errs := c.Do(t.Context(), &b)
	if len(errs) != b.Len() {
		t.Fatalf("%d errors of %d messages", len(errs), b.Len())
	}
	for i, err := range errs {
		if !errors.Is(err, unix.ENOENT) {
			t.Fatalf("message %d: %v, want ENOENT", i, err)
		}
	}
}

func noops(n int) *Batch {
	var b Batch
	for range n {
		b.Begin(unix.NLMSG_NOOP, 0)
		b.End()
	}
	return &b
}
