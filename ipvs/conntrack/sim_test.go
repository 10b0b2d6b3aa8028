package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// A sim is the kernel's side of the socket, without its filter: it sends every flow of a family.
type sim struct {
	flows       []Flow
	queue       [][]byte
	noFilter    bool          // EINVAL for what it does not know
	deleteErrno syscall.Errno // for every deletion
	afterDump   func()
	zone        uint16
}

func (s *sim) Close() error { return nil }

func (s *sim) Receive(ctx context.Context, p []byte) (int, error) {
	if len(s.queue) == 0 {
		return 0, errors.Join(ctx.Err(), os.ErrDeadlineExceeded)
	}
	n := copy(p, s.queue[0])
	s.queue = s.queue[1:]
	return n, nil
}

func (s *sim) Send(p []byte) error {
	messages, err := syscall.ParseNetlinkMessage(p)
	for _, m := range messages {
		errno := s.message(m)
		switch {
		case errno != 0 || m.Header.Flags&unix.NLM_F_DUMP == 0 && m.Header.Flags&unix.NLM_F_ACK != 0:
			s.reply(m, unix.NLMSG_ERROR, binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno))))
		case m.Header.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP:
			s.reply(m, unix.NLMSG_DONE, make([]byte, 4))
		}
	}
	return err
}

func (s *sim) reply(to syscall.NetlinkMessage, typ uint16, payload []byte) {
	p := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = binary.NativeEndian.AppendUint16(p, 0)
	p = binary.NativeEndian.AppendUint32(p, to.Header.Seq)
	p = binary.NativeEndian.AppendUint32(p, 0)
	s.queue = append(s.queue, append(p, payload...))
}

func (s *sim) message(m syscall.NetlinkMessage) syscall.Errno {
	if m.Header.Type == msgDelete {
		return s.delete(m)
	}
	for a := netlink.Parse(m.Data[nfgenHeaderLen:]); a.Next(); {
		if a.Type() == attrFilter && s.noFilter {
			return unix.EINVAL
		}
	}
	for i, f := range s.flows {
		if (m.Data[0] == unix.AF_INET) == f.Client.Addr().Is4() {
			s.reply(m, msgGet, encodeFlow(f, uint32(i), s.zone))
		}
	}
	if s.afterDump != nil {
		s.afterDump()
	}
	return 0
}

// delete deletes the flow with the same original tuple and zone. Without a tuple the kernel would delete everything.
func (s *sim) delete(m syscall.NetlinkMessage) syscall.Errno {
	if s.deleteErrno != 0 {
		return s.deleteErrno
	}
	t, err := parseFlow(m.Data)
	if err != nil || t.orig == nil || len(t.id) != 4 || (t.zone != nil) != (s.zone != 0) {
		return unix.EINVAL
	}
	for i, f := range s.flows {
		if f.Proto == t.Proto && f.Client == t.Client && f.Frontend == t.Frontend {
			s.flows = slices.Delete(s.flows, i, i+1)
			return 0
		}
	}
	return unix.ENOENT
}

// encodeFlow returns a flow as the kernel sends it, with attributes that do not matter around it.
func encodeFlow(f Flow, id uint32, zone uint16) []byte {
	var b netlink.Batch
	begin(&b, msgGet, 0, unix.AF_INET)
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

func appendTuple(b *netlink.Batch, proto uint8, src, dst netip.AddrPort) {
	from, to := uint16(ipV4Src), uint16(ipV4Dst)
	if src.Addr().Is6() {
		from, to = ipV6Src, ipV6Dst
	}
	ip := b.Nest(tupleIP)
	b.Addr(from, src.Addr())
	b.Addr(to, dst.Addr())
	b.Unnest(ip)
	p := b.Nest(tupleProto)
	b.Uint8(protoNum, proto)
	b.Uint16BE(protoSrc, src.Port())
	b.Uint16BE(protoDst, dst.Port())
	b.Unnest(p)
}
