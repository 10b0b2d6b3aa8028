package steering

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoIPv6 means that this node cannot have an IPv6 item: the kernel has no IPv6 (ipv6.disable=1), or it is disabled for
// the link (net.ipv6.conf.*.disable_ipv6).
var ErrNoIPv6 = errors.New("IPv6 is disabled on this node")

// translate explains the kernel's error in terms of the item. Numbers of package unix and errors of os stay in the chain.
func (i Item) translate(err error) error {
	noIPv6 := errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
	switch {
	case err == nil:
		return nil
	case noIPv6 && i.Prefix.Addr().Is6():
		return fmt.Errorf("%w (%w)", ErrNoIPv6, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: a foreign object, left alone", os.ErrExist)
	case errors.Is(err, unix.ENODEV):
		return errNoLink
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%s is down: %w", LinkName, err)
	}
	return err
}

// errNoLink is the error of items on the link if the link is missing.
var errNoLink = fmt.Errorf("%w: link %s", os.ErrNotExist, LinkName)
