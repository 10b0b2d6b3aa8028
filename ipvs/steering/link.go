package steering

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// From include/uapi/linux/if_link.h.
const (
	addrGenModeAttr = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE
)

// A linkState is the link in the kernel. The zero value is a missing link.
type linkState struct {
	index   uint32
	flags   uint32 // IFF_*
	name    string
	kind    string // such as "dummy"; empty for hardware
	hasIPv6 bool
	genMode uint8
}

// inSync reports whether the link needs no change.
func (l linkState) inSync() bool {
	const want = unix.IFF_UP | unix.IFF_NOARP
	return l.kind == "dummy" && l.flags&want == want && (!l.hasIPv6 || l.genMode == addrGenModeNone)
}

// parseLink parses struct ifinfomsg and its attributes.
func parseLink(p []byte) (linkState, error) {
	if len(p) < unix.SizeofIfInfomsg {
		return linkState{}, fmt.Errorf("link of %d bytes: %w", len(p), bulk.ErrMalformed)
	}
	l := linkState{index: binary.NativeEndian.Uint32(p[4:]), flags: binary.NativeEndian.Uint32(p[8:])}
	a := bulk.Parse(p[unix.SizeofIfInfomsg:])
	for a.Next() {
		switch a.Type() {
		case unix.IFLA_IFNAME:
			l.name = a.Text()
		case unix.IFLA_LINKINFO:
			if kind, ok := find(a.Nested(), unix.IFLA_INFO_KIND); ok {
				l.kind = kind.Text()
			}
		case unix.IFLA_AF_SPEC:
			inet6, ok := find(a.Nested(), unix.AF_INET6)
			if mode, has := find(inet6.Nested(), addrGenModeAttr); ok && has {
				l.hasIPv6, l.genMode = true, mode.Uint8()
			}
		}
	}
	return l, a.Err()
}

// find returns the iterator at the first attribute of a type.
func find(a bulk.Attrs, typ uint16) (bulk.Attrs, bool) {
	for a.Next() {
		if a.Type() == typ {
			return a, true
		}
	}
	return bulk.Attrs{}, false
}

// readLink returns the current link.
func (c *Conn) readLink(ctx context.Context) (linkState, error) {
	c.batch.Reset()
	c.batch.Begin(unix.RTM_GETLINK, 0)
	c.batch.Raw(make([]byte, unix.SizeofIfInfomsg)...)
	c.batch.Text(unix.IFLA_IFNAME, LinkName)
	c.batch.End()
	var l linkState
	err := c.bulk.Query(ctx, &c.batch, func(_ uint16, p []byte) (err error) {
		l, err = parseLink(p)
		return err
	})
	if errors.Is(err, unix.ENODEV) {
		return linkState{}, nil
	}
	if err != nil {
		return linkState{}, fmt.Errorf("read link %s: %w", LinkName, err)
	}
	return l, nil
}

// addLink creates or repairs the link. It sets the mode of IPv6 address generation before the link goes up: there is
// never a link-local address, nor the packets that the kernel would send for one.
func (c *Conn) addLink(ctx context.Context) error {
	l, err := c.readLink(ctx)
	switch {
	case err != nil:
		return err
	case l.inSync():
		return nil
	case l.index != 0 && l.kind != "dummy":
		return fmt.Errorf("%w: it is a link of type %q and not dummy", os.ErrExist, l.kind)
	}
	link := &netlink.Dummy{LinkAttrs: netlink.NewLinkAttrs()}
	link.Name, link.Index = LinkName, int(l.index)
	if l.index == 0 {
		if err := c.handle.LinkAdd(link); err != nil {
			return fmt.Errorf("a dummy link: %w", err)
		}
	}
	err = c.handle.LinkSetIP6AddrGenMode(link, addrGenModeNone)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) { // without IPv6
		return fmt.Errorf("addrgenmode none: %w", err)
	}
	return errors.Join(c.handle.LinkSetARPOff(link), c.handle.LinkSetUp(link))
}

// delLink removes the link; the kernel removes the items on it.
func (c *Conn) delLink(ctx context.Context) error {
	l, err := c.readLink(ctx)
	if err != nil || l.index == 0 {
		return err
	}
	if l.kind != "dummy" {
		return fmt.Errorf("%w: it is a link of type %q and not dummy", os.ErrExist, l.kind)
	}
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: LinkName, Index: int(l.index)}}
	if err := c.handle.LinkDel(link); !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
