package netlink

import (
	"context"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reply is one datagram, or the error in its place.
type reply struct {
	data []byte
	err  error
}

// A fakeSocket answers like the kernel: at once, errors always, acknowledgements where asked for. It carries out nothing.
type fakeSocket struct {
	sends    [][]byte
	queue    []reply
	sendErrs map[int]error         // by the number of the send
	refuse   map[int]syscall.Errno // by the number of the message since the first
	answer   func(seq uint32) []reply
	room     int // replies held unread before they are lost; 0: no limit
	messages int
}

func (s *fakeSocket) Send(p []byte) error {
	n := len(s.sends)
	s.sends = append(s.sends, append([]byte(nil), p...))
	if err := s.sendErrs[n]; err != nil {
		return err
	}
	for m := (walk{rest: p}); m.next(); s.messages++ {
		errno := s.refuse[s.messages]
		switch {
		case s.answer != nil:
			s.queue = append(s.queue, s.answer(m.seq)...)
		case errno != 0 || m.flags&unix.NLM_F_ACK != 0:
			s.reply(reply{data: errorMessage(m.seq, unix.NLM_F_CAPPED, errno, nil)})
		}
	}
	return nil
}

func (s *fakeSocket) reply(r reply) {
	switch {
	case s.room == 0 || len(s.queue) < s.room:
		s.queue = append(s.queue, r)
	case len(s.queue) == s.room:
		s.queue = append([]reply{{err: unix.ENOBUFS}}, s.queue...)
	}
}

func (s *fakeSocket) Receive(ctx context.Context, p []byte) (int, error) {
	if len(s.queue) == 0 {
		if ctx.Err() == nil {
			return 0, context.DeadlineExceeded
		}
		return 0, ctx.Err()
	}
	r := s.queue[0]
	s.queue = s.queue[1:]
	return copy(p, r.data), r.err
}

func (s *fakeSocket) Close() error { return nil }

// message returns a message with the given payload.
func message(typ, flags uint16, seq uint32, payload []byte) []byte {
	p := make([]byte, headerLen, headerLen+len(payload))
	binary.NativeEndian.PutUint32(p, uint32(headerLen+len(payload)))
	binary.NativeEndian.PutUint16(p[4:], typ)
	binary.NativeEndian.PutUint16(p[flagsOffset:], flags)
	binary.NativeEndian.PutUint32(p[seqOffset:], seq)
	return append(p, payload...)
}

// errorMessage returns an NLMSG_ERROR about a request, with attributes behind it.
func errorMessage(seq uint32, flags uint16, errno syscall.Errno, request []byte, tlvs ...byte) []byte {
	p := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	p = append(p, message(unix.NLMSG_MIN_TYPE, 0, seq, request)...)
	return message(unix.NLMSG_ERROR, flags, seq, append(p, tlvs...))
}
