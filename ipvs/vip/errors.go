package vip

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoIPv6 says that an item of IPv6 cannot be on this node: the kernel has no IPv6 (ipv6.disable=1), or it is switched
// off for the link (net.ipv6.conf.*.disable_ipv6).
var ErrNoIPv6 = errors.New("IPv6 is disabled on this node")

// words says what the kernel's error means for an item. Numbers of package unix and of os stay in the chain.
func (i Item) words(err error) error {
	noIPv6 := errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
	switch {
	case err == nil:
		return nil
	case noIPv6 && i.Prefix.Addr().Is6():
		return fmt.Errorf("%w (%w)", ErrNoIPv6, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another program's, left alone", os.ErrExist)
	case errors.Is(err, unix.ENODEV):
		return errNoLink
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%s is down: %w", LinkName, err)
	}
	return err
}

// errNoLink is the error of what hangs on the link, without it.
var errNoLink = fmt.Errorf("%w: link %s", os.ErrNotExist, LinkName)
