package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// commands maps verbs to IPVS_CMD_*.
var commands = [...]uint8{
	AddServer: cmdNewService, SetServer: cmdSetService, DelServer: cmdDelService,
	AddReal: cmdNewDest, SetReal: cmdSetDest, DelReal: cmdDelDest,
}

// invalid returns os.ErrInvalid for an op that netlink cannot express. Without this check the kernel would take an
// address without bytes for the unspecified address.
func (op Op) invalid() error {
	switch {
	case int(op.Verb) >= len(commands):
		return fmt.Errorf("verb: %w", os.ErrInvalid)
	case !op.Key.Addr.IsValid():
		return fmt.Errorf("virtual address: %w", os.ErrInvalid)
	case op.Verb >= AddReal && !op.Addr.IsValid():
		return fmt.Errorf("real address: %w", os.ErrInvalid)
	}
	return nil
}

// appendOp encodes an op as one message. An invalid op becomes a no-op message, so that messages and ops have the same
// indices.
func appendOp(b *netlink.Batch, family uint16, op Op) {
	if op.invalid() != nil {
		b.Begin(unix.NLMSG_NOOP, 0)
		b.End()
		return
	}
	b.BeginGeneric(family, 0, commands[op.Verb], familyVersion)
	nest := b.Nest(attrService)
	appendKey(b, op.Key)
	if op.Verb == AddServer || op.Verb == SetServer {
		appendServer(b, op.Key.Addr, op.Server)
	}
	b.Unnest(nest)
	if op.Verb >= AddReal {
		appendReal(b, op.Addr, op.Real)
	}
	b.End()
}

// appendGet encodes a query about one virtual server. GET_DEST is always a dump.
func appendGet(b *netlink.Batch, family uint16, cmd uint8, key Key) {
	var flags uint16
	if cmd == cmdGetDest {
		flags = unix.NLM_F_DUMP
	}
	b.BeginGeneric(family, flags, cmd, familyVersion)
	nest := b.Nest(attrService)
	appendKey(b, key)
	b.Unnest(nest)
	b.End()
}

func appendKey(b *netlink.Batch, k Key) {
	b.Uint16(svcFamily, uint16(inet.FamilyOf(k.Addr)))
	if k.Mark != 0 {
		b.Uint32(svcMark, k.Mark)
		return
	}
	b.Uint16(svcProtocol, uint16(k.Proto))
	b.Addr(svcAddr, k.Addr)
	b.Uint16BE(svcPort, k.Port)
}

func appendServer(b *netlink.Batch, family netip.Addr, s Server) {
	flags := uint32(s.Flags)
	if s.Timeout != 0 {
		flags |= flagPersist
	}
	b.Text(svcScheduler, s.Scheduler)
	withMask := flagsAndMask(flags)
	b.Data(svcFlags, withMask[:])
	b.Uint32(svcTimeout, s.Timeout)
	// Persistence is by the client's full address. The netmask is one in network order for IPv4, a length for IPv6.
	if family.Is4() {
		b.Uint32(svcNetmask, netmaskIPv4)
	} else {
		b.Uint32(svcNetmask, prefixLenIPv6)
	}
}

// flagsAndMask is struct ip_vs_flags: the flags, and a mask of the flags to set.
func flagsAndMask(flags uint32) (p [8]byte) {
	binary.NativeEndian.PutUint32(p[:], flags)
	binary.NativeEndian.PutUint32(p[4:], ^uint32(0))
	return p
}

func appendReal(b *netlink.Batch, at netip.AddrPort, r Real) {
	nest := b.Nest(attrDest)
	b.Uint16(destFamily, uint16(inet.FamilyOf(at.Addr())))
	b.Addr(destAddr, at.Addr())
	b.Uint16BE(destPort, at.Port())
	b.Uint32(destForward, forwardMasq)
	b.Uint32(destWeight, r.Weight)
	b.Uint32(destUpper, 0)
	b.Uint32(destLower, 0)
	b.Unnest(nest)
}
