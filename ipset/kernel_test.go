package ipset

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// A socket is a netlink socket with a Fake for the kernel behind it. It answers byte for byte as ip_set_core.c does.
type socket struct {
	fake    *Fake
	sent    int // messages
	replies [][]byte
	// What an odd kernel does.
	protocol, revision [2]byte // min, max
	interrupt          bool    // dumps
	perMessage         int     // members of a dump
}

func newSocket(f *Fake) *socket {
	return &socket{fake: f, protocol: [2]byte{6, 7}, revision: [2]byte{0, 9}, perMessage: 3}
}

func (s *socket) Close() error { return nil }

func (s *socket) Receive(ctx context.Context, p []byte) (int, error) {
	if len(s.replies) == 0 {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.replies[0])
	s.replies = s.replies[1:]
	return n, nil
}

func (s *socket) Send(p []byte) error {
	for len(p) >= unix.SizeofNlMsghdr {
		n := binary.NativeEndian.Uint32(p)
		s.message(p[:n:n])
		p = p[(n+3)&^3:]
		s.sent++
	}
	return nil
}

// message answers one request.
func (s *socket) message(p []byte) {
	cmd := binary.NativeEndian.Uint16(p[4:]) & 0xff
	flags := binary.NativeEndian.Uint16(p[6:])
	attrs := attributes(netlink.Parse(p[unix.SizeofNlMsghdr+nfgenLen:]))
	name := text(attrs[attrSetName])
	var err error
	switch cmd {
	case cmdProtocol:
		s.data(p, attr(attrProtocol, s.protocol[1]), attr(attrVersionMin, s.protocol[0]))
	case cmdType:
		s.data(p, attr(attrRevision, s.revision[1]), attr(attrVersionMin, s.revision[0]))
	case cmdCreate:
		set := Set{Name: name, Type: Type(text(attrs[attrTypeName])), Family: Family(attrs[attrFamily][0])}
		_, set.Marks = attributes(netlink.Parse(attrs[attrData]))[attrDataFlags]
		if s.fake.sets[name] != nil {
			err = unix.EEXIST
		} else {
			err = s.fake.Create(context.Background(), set)
		}
	case cmdDestroy:
		if err = unix.ENOENT; s.fake.sets[name] != nil {
			err = s.fake.Destroy(context.Background(), name)
		}
	case cmdAdd, cmdDel:
		if s.lines(p, cmd, name, attrs) {
			return // a line failed, and the answer is sent
		}
		if s.fake.sets[name] == nil {
			err = unix.ENOENT
		}
	case cmdTest:
		err = s.test(name, attrs)
	case cmdList:
		s.dump(p, name, attrs)
		return
	}
	if err != nil || flags&unix.NLM_F_ACK != 0 {
		s.reply(p, unix.NLMSG_ERROR, unix.NLM_F_CAPPED, append(number(err), p[:unix.SizeofNlMsghdr]...))
	}
}

func (s *socket) test(name string, attrs map[uint16][]byte) error {
	set := s.fake.sets[name]
	if set == nil {
		return unix.ENOENT
	}
	m, _, err := parseMember(netlink.Parse(attrs[attrData]))
	if err != nil {
		panic(err)
	}
	return errors.Join(s.fake.Do(context.Background(), []Op{{Verb: Test, Set: set.Set, Member: m}})...)
}

// lines carries out the members of a container and says whether one failed.
func (s *socket) lines(p []byte, cmd uint16, name string, attrs map[uint16][]byte) bool {
	set := s.fake.sets[name]
	if set == nil {
		return false
	}
	for a := netlink.Parse(attrs[attrADT]); a.Next(); {
		m, mark, err := parseMember(a.Nested())
		if err != nil {
			panic(err)
		}
		line := attributes(a.Nested())
		op := Op{Verb: Add, Set: set.Set, Member: m, Mark: mark}
		if _, marked := line[attrSkbMark]; marked {
			op.Set.Marks = true
		}
		if cmd == cmdDel {
			op.Verb = Del
		}
		if err := errors.Join(s.fake.Do(context.Background(), []Op{op})...); err != nil {
			echo := slices.Clone(p)
			copy(attributes(netlink.Parse(echo[unix.SizeofNlMsghdr+nfgenLen:]))[attrLine], line[attrLine])
			s.reply(p, unix.NLMSG_ERROR, 0, append(number(err), echo...))
			return true
		}
	}
	return false
}

func (s *socket) dump(p []byte, name string, attrs map[uint16][]byte) {
	names := []string{name}
	if name == "" {
		names = slices.Sorted(maps.Keys(s.fake.sets))
	}
	flags := uint16(unix.NLM_F_MULTI)
	if s.interrupt {
		flags |= unix.NLM_F_DUMP_INTR
	}
	for _, name := range names {
		set := s.fake.sets[name]
		if set == nil {
			s.reply(p, unix.NLMSG_ERROR, unix.NLM_F_CAPPED, append(number(unix.ENOENT), p[:unix.SizeofNlMsghdr]...))
			return
		}
		for _, payload := range set.dump(s.perMessage, len(attrs[attrFlags]) == 0) {
			s.reply(p, subsystem<<8|cmdList, flags, payload)
		}
	}
	s.reply(p, unix.NLMSG_DONE, unix.NLM_F_MULTI, number(nil))
}

// dump returns the payloads of a dump's messages: the definition is in the first alone.
func (s *fakeSet) dump(perMessage int, members bool) [][]byte {
	data := attr(attrMaxElem, binary.BigEndian.AppendUint32(nil, MaxElem)...)
	if s.Marks {
		data = append(data, attr(attrDataFlags, binary.BigEndian.AppendUint32(nil, flagWithSkbInfo)...)...)
	}
	begin := append([]byte{unix.AF_INET, 0, 0, 0}, attr(attrSetName, append([]byte(s.Name), 0)...)...)
	first := slices.Concat(begin, attr(attrTypeName, append([]byte(s.Type), 0)...), attr(attrFamily, byte(s.Family)), attr(attrData, data...))
	payloads := [][]byte{first}
	if !members {
		return payloads
	}
	for some := range slices.Chunk(slices.SortedFunc(maps.Keys(s.members), Member.Compare), perMessage) {
		var adt []byte
		for _, m := range some {
			adt = append(adt, attr(attrData, memberAttrs(m, s.members[m])...)...)
		}
		last := len(payloads) - 1
		payloads[last] = append(payloads[last], attr(attrADT, adt...)...)
		payloads = append(payloads, slices.Clone(begin))
	}
	return payloads
}

func memberAttrs(m Member, mark Mark) []byte {
	address := func(typ uint16, a []byte) []byte {
		return attr(typ, attr(map[int]uint16{4: attrIPv4, 16: attrIPv6}[len(a)], a...)...)
	}
	if !m.Addr.IsValid() {
		return append(address(attrIP, m.Other.Addr().AsSlice()), attr(attrCIDR, byte(m.Other.Bits()))...)
	}
	p := address(attrIP, m.Addr.AsSlice())
	if m.Proto != 0 {
		p = append(p, attr(attrPort, byte(m.Port>>8), byte(m.Port))...)
		p = append(p, attr(attrProto, m.Proto)...)
	}
	if m.Other.IsValid() {
		p = append(p, address(attrIP2, m.Other.Addr().AsSlice())...)
		p = append(p, attr(attrCIDR2, byte(m.Other.Bits()))...)
	}
	if mark != (Mark{}) {
		p = append(p, attr(attrSkbMark, binary.BigEndian.AppendUint64(nil, uint64(mark.Value)<<32|uint64(mark.Mask))...)...)
	}
	return p
}

// data replies with attributes.
func (s *socket) data(p []byte, attrs ...[]byte) {
	s.reply(p, subsystem<<8, 0, append([]byte{unix.AF_INET, 0, 0, 0}, slices.Concat(attrs...)...))
}

func (s *socket) reply(request []byte, typ, flags uint16, payload []byte) {
	p := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = binary.NativeEndian.AppendUint16(p, flags)
	p = append(p, request[8:12]...) // the sequence number
	p = append(p, 0, 0, 0, 0)
	s.replies = append(s.replies, append(p, payload...))
}

// number is the kernel's number for an error of the Fake.
func number(err error) []byte {
	var errno syscall.Errno
	switch {
	case err == nil || errors.As(err, &errno):
	case errors.Is(err, ErrFull):
		errno = errnoHashFull
	case errors.Is(err, ErrInUse):
		errno = errnoBusy
	case errors.Is(err, ErrNoMember):
		errno = errnoExist
	case errors.Is(err, os.ErrInvalid):
		errno = errnoSkbInfo
	default:
		panic(err)
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

func attr(typ uint16, data ...byte) []byte {
	p := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(data)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = append(p, data...)
	return append(p, make([]byte, -len(data)&3)...)
}

func attributes(a netlink.Attrs) map[uint16][]byte {
	found := make(map[uint16][]byte)
	for a.Next() {
		found[a.Type()] = a.Data()
	}
	return found
}

func text(p []byte) string {
	if len(p) == 0 {
		return ""
	}
	return string(p[:len(p)-1])
}
