package conntrack

import (
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

// A sim is the kernel behind a socket, without its filter: it sends every flow of a family.
type sim struct {
	flows       []Flow
	noFilter    bool          // EINVAL for what it does not know
	deleteErrno syscall.Errno // for every deletion
	afterDump   func()
	zone        uint16
}

func (s *sim) conn() *Conn {
	return &Conn{nl: netlink.New(&netlinktest.Socket{Handle: s.message})}
}

func (s *sim) message(m netlinktest.Request) error {
	if m.Type == msgDelete {
		return s.delete(m)
	}
	for a := netlink.ParseNetfilter(m.Payload); a.Next(); {
		if a.Type() == attrFilter && s.noFilter {
			return unix.EINVAL
		}
	}
	for i, f := range s.flows {
		if (m.Payload[0] == unix.AF_INET) == f.Client.Addr().Is4() {
			m.Reply(msgGet, 0, encodeFlow(f, uint32(i), s.zone))
		}
	}
	if s.afterDump != nil {
		s.afterDump()
	}
	return nil
}

// delete deletes the flow with the same original tuple and zone. Without a tuple the kernel would delete everything.
func (s *sim) delete(m netlinktest.Request) error {
	if s.deleteErrno != 0 {
		return s.deleteErrno
	}
	t, err := parseFlow(m.Payload)
	if err != nil || t.orig == nil || len(t.id) != 4 || (t.zone != nil) != (s.zone != 0) {
		return unix.EINVAL
	}
	for i, f := range s.flows {
		if f.Proto == t.Proto && f.Client == t.Client && f.Frontend == t.Frontend {
			s.flows = slices.Delete(s.flows, i, i+1)
			return nil
		}
	}
	return unix.ENOENT
}

// encodeFlow returns a flow as the kernel sends it, with attributes that do not matter around it.
func encodeFlow(f Flow, id uint32, zone uint16) []byte {
	var b netlink.Batch
	b.BeginNetfilter(msgGet, 0, unix.AF_INET)
	orig := b.Nest(attrOrig)
	appendTuple(&b, f.Proto, f.Client, f.Frontend)
	b.Unnest(orig)
	reply := b.Nest(attrReply)
	appendTuple(&b, f.Proto, f.Endpoint, f.Client)
	b.Unnest(reply)
	b.Uint32BE(3, 0x188)
	b.Uint32BE(attrID, id)
	if zone != 0 {
		b.Uint16BE(attrZone, zone)
	}
	b.End()
	return b.Bytes()[unix.SizeofNlMsghdr:]
}

func appendTuple(b *netlink.Batch, proto inet.Protocol, src, dst netip.AddrPort) {
	from, to := uint16(ipV4Src), uint16(ipV4Dst)
	if src.Addr().Is6() {
		from, to = ipV6Src, ipV6Dst
	}
	ip := b.Nest(tupleIP)
	b.Addr(from, src.Addr())
	b.Addr(to, dst.Addr())
	b.Unnest(ip)
	p := b.Nest(tupleProto)
	b.Uint8(protoNum, uint8(proto))
	b.Uint16BE(protoSrc, src.Port())
	b.Uint16BE(protoDst, dst.Port())
	b.Unnest(p)
}
