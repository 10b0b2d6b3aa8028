package steering

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// addressFlags switch off duplicate address detection, since an IPv6 service address is on many nodes, and the prefix
// route, since the local table has a route to the address.
const addressFlags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE

// forever is the valid lifetime of an IPv6 service address. Its preferred lifetime is 0: a node without an address on
// the way to a pod takes the nearest of all its addresses as source (RFC 6724, section 5, rule 3 before rule 8),
// masqueraded traffic included, and that must not be a service address.
const forever uint32 = 0xffffffff

// encodeAddress appends the message that adds an address to a link or removes it.
func encodeAddress(b *bulk.Batch, verb Verb, p netip.Prefix, link uint32) {
	if verb == Add {
		b.Begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	} else {
		b.Begin(unix.RTM_DELADDR, 0)
	}
	// struct ifaddrmsg: family, prefix length, flags (as attribute), scope, index.
	b.Raw(binary.NativeEndian.AppendUint32([]byte{familyOf(p), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE}, link)...)
	b.Addr(unix.IFA_LOCAL, p.Addr())
	b.Addr(unix.IFA_ADDRESS, p.Addr())
	if verb == Add && p.Addr().Is6() {
		b.Uint32(unix.IFA_FLAGS, addressFlags)
		// struct ifa_cacheinfo: preferred, valid, created, updated.
		b.Data(unix.IFA_CACHEINFO, binary.NativeEndian.AppendUint32(make([]byte, 4, 16), forever)[:16])
	}
	b.End()
}

// parseAddress parses struct ifaddrmsg and its attributes: the index of a link, and an address on it with its prefix
// length.
func parseAddress(p []byte) (link uint32, _ netip.Prefix, _ error) {
	if len(p) < unix.SizeofIfAddrmsg {
		return 0, netip.Prefix{}, fmt.Errorf("address of %d bytes: %w", len(p), bulk.ErrMalformed)
	}
	var local, address netip.Addr
	a := bulk.Parse(p[unix.SizeofIfAddrmsg:])
	for a.Next() {
		switch a.Type() {
		case unix.IFA_LOCAL:
			local = a.Addr()
		case unix.IFA_ADDRESS: // the peer's, if there is a local one
			address = a.Addr()
		}
	}
	if !local.IsValid() {
		local = address
	}
	prefix := netip.PrefixFrom(local, int(p[1]))
	if a.Err() != nil || !prefix.IsValid() {
		return 0, netip.Prefix{}, fmt.Errorf("address: %w", bulk.ErrMalformed)
	}
	return binary.NativeEndian.Uint32(p[4:]), prefix, nil
}

// readAddresses adds the addresses on the link, all of which are owned.
func (c *Conn) readAddresses(ctx context.Context, link uint32, items Items) error {
	return c.dump(ctx, dumpOf{get: unix.RTM_GETADDR, header: unix.SizeofIfAddrmsg}, func(p []byte) error {
		on, prefix, err := parseAddress(p)
		if err == nil && on == link {
			items[Item{Kind: Address, Prefix: prefix}] = netip.Addr{}
		}
		return err
	})
}
