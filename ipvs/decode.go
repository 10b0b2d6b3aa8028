package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// nested returns an iterator over the attributes inside the first attribute of a type in a generic netlink payload.
func nested(payload []byte, typ uint16) (netlink.Attrs, error) {
	a := netlink.ParseGeneric(payload)
	for a.Next() {
		if a.Type() == typ {
			return a.Nested(), nil
		}
	}
	return a, fmt.Errorf("attribute %d is missing: %w", typ, netlink.ErrMalformed)
}

// parseService parses the reply to GET_SERVICE.
func parseService(payload []byte) (Key, Server, error) {
	a, err := nested(payload, attrService)
	if err != nil {
		return Key{}, Server{}, fmt.Errorf("virtual server: %w", err)
	}
	var raw rawService
	for a.Next() {
		raw.take(&a)
	}
	key, err := raw.key()
	if err = errors.Join(a.Err(), err); err != nil {
		return Key{}, Server{}, fmt.Errorf("virtual server: %w", err)
	}
	return key, raw.server(), nil
}

// A rawService has a virtual server's attributes as the kernel encodes them.
type rawService struct {
	family, proto, port  uint16
	mark, flags, timeout uint32
	addr                 []byte // 16 bytes, of which IPv4 uses 4
	scheduler            string
}

func (r *rawService) take(a *netlink.Attrs) {
	switch a.Type() {
	case svcFamily:
		r.family = a.Uint16()
	case svcProtocol:
		r.proto = a.Uint16()
	case svcAddr:
		r.addr = a.Data()
	case svcPort:
		r.port = a.Uint16BE()
	case svcMark:
		r.mark = a.Uint32()
	case svcScheduler:
		r.scheduler = schedulerName(a)
	case svcFlags:
		if p := a.Data(); len(p) >= 4 {
			r.flags = binary.NativeEndian.Uint32(p)
		}
	case svcTimeout:
		r.timeout = a.Uint32()
	}
}

// schedulerName avoids a copy of the most common name.
func schedulerName(a *netlink.Attrs) string {
	if string(a.Data()) == "rr\x00" {
		return "rr"
	}
	return a.Text()
}

func (r *rawService) key() (Key, error) {
	if r.mark != 0 {
		switch r.family {
		case unix.AF_INET:
			return MarkKey(r.mark, netip.IPv4Unspecified()), nil
		case unix.AF_INET6:
			return MarkKey(r.mark, netip.IPv6Unspecified()), nil
		}
	}
	addr, err := address(r.family, r.addr)
	return Key{Addr: addr, Port: r.port, Proto: inet.Protocol(r.proto)}, err
}

func (r *rawService) server() Server {
	s := Server{Scheduler: r.scheduler, Flags: Flags(r.flags &^ (flagPersist | flagHashed))}
	if r.flags&flagPersist != 0 {
		s.Timeout = r.timeout
	}
	return s
}

// address returns the family's address in p. The kernel sends 16 bytes for both families (union nf_inet_addr).
func address(family uint16, p []byte) (netip.Addr, error) {
	switch {
	case family == unix.AF_INET && len(p) >= 4:
		return netip.AddrFrom4([4]byte(p)), nil
	case family == unix.AF_INET6 && len(p) >= 16:
		return netip.AddrFrom16([16]byte(p)), nil
	}
	return netip.Addr{}, fmt.Errorf("address of %d bytes in family %d: %w", len(p), family, netlink.ErrMalformed)
}

// parseDest parses one message of the reply to GET_DEST. Kernels before 3.18 omit the family: it is the virtual
// server's, given here.
func parseDest(payload []byte, family uint16) (netip.AddrPort, RealState, error) {
	a, err := nested(payload, attrDest)
	if err != nil {
		return netip.AddrPort{}, RealState{}, fmt.Errorf("real server: %w", err)
	}
	var raw []byte
	var port uint16
	var s RealState
	for a.Next() {
		switch a.Type() {
		case destFamily:
			family = a.Uint16()
		case destAddr:
			raw = a.Data()
		case destPort:
			port = a.Uint16BE()
		case destWeight:
			s.Weight = a.Uint32()
		case destActive:
			s.Active = a.Uint32()
		case destInactive:
			s.Inactive = a.Uint32()
		}
	}
	addr, err := address(family, raw)
	if err = errors.Join(a.Err(), err); err != nil {
		return netip.AddrPort{}, RealState{}, fmt.Errorf("real server: %w", err)
	}
	return netip.AddrPortFrom(addr, port), s, nil
}
