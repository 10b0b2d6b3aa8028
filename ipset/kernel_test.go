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

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

// A socket is a netlink socket with a Fake for the kernel behind it. It answers byte for byte as ip_set_core.c does.
type socket struct {
	netlinktest.Socket
	fake *Fake
	// Oddities of other kernels.
	protocol, revision [2]byte // min, max
	interrupt          bool    // dumps
	perMessage         int     // members of a dump
}

func newSocket(f *Fake) *socket {
	s := &socket{fake: f, protocol: [2]byte{6, 7}, revision: [2]byte{0, 9}, perMessage: 3}
	s.Handle = func(r netlinktest.Request) error { return numbered(s.message(r)) }
	return s
}

// message answers one request.
func (s *socket) message(r netlinktest.Request) error {
	attrs := attributes(netlink.ParseNetfilter(r.Payload))
	name := text(attrs[attrSetName])
	switch cmd := r.Type & 0xff; cmd {
	case cmdProtocol:
		data(r, attr(attrProtocol, s.protocol[1]), attr(attrVersionMin, s.protocol[0]))
	case cmdType:
		data(r, attr(attrRevision, s.revision[1]), attr(attrVersionMin, s.revision[0]))
	case cmdCreate:
		set := Set{Name: name, Type: Type(text(attrs[attrTypeName])), Family: inet.Family(attrs[attrFamily][0])}
		_, set.Marks = attributes(netlink.Parse(attrs[attrData]))[attrDataFlags]
		if s.fake.sets[name] != nil {
			return unix.EEXIST
		}
		return s.fake.Create(context.Background(), set)
	case cmdDestroy:
		if s.fake.sets[name] == nil {
			return unix.ENOENT
		}
		return s.fake.Destroy(context.Background(), name)
	case cmdAdd, cmdDel:
		return s.lines(r, cmd, name, attrs)
	case cmdTest:
		return s.test(name, attrs)
	case cmdList:
		return s.dump(r, name, attrs)
	}
	return nil
}

func (s *socket) test(name string, attrs map[uint16][]byte) error {
	set := s.fake.sets[name]
	if set == nil {
		return unix.ENOENT
	}
	m, _, err := parseMember(netlink.Parse(attrs[attrData]), set.Type)
	if err != nil {
		panic(err)
	}
	return errors.Join(s.fake.Do(context.Background(), []Op{{Verb: Test, Set: set.Set, Member: m}})...)
}

// lines carries out the members of a container, up to the first refused one.
func (s *socket) lines(r netlinktest.Request, cmd uint16, name string, attrs map[uint16][]byte) error {
	set := s.fake.sets[name]
	if set == nil {
		return unix.ENOENT
	}
	for a := netlink.Parse(attrs[attrADT]); a.Next(); {
		m, mark, err := parseMember(a.Nested(), set.Type)
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
			echo := slices.Clone(r.Message)
			copy(attributes(netlink.ParseNetfilter(echo[unix.SizeofNlMsghdr:]))[attrLine], line[attrLine])
			return netlinktest.Echo{Errno: errnoOf(err), Message: echo}
		}
	}
	return nil
}

func (s *socket) dump(r netlinktest.Request, name string, attrs map[uint16][]byte) error {
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
			return unix.ENOENT
		}
		for _, payload := range set.dump(s.perMessage, len(attrs[attrFlags]) == 0) {
			r.Reply(subsystem<<8|cmdList, flags, payload)
		}
	}
	return nil
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
		p = append(p, attr(attrProto, byte(m.Proto))...)
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
func data(r netlinktest.Request, attrs ...[]byte) {
	r.Reply(subsystem<<8, 0, append([]byte{unix.AF_INET, 0, 0, 0}, slices.Concat(attrs...)...))
}

// numbered returns an error of the Fake as the kernel's.
func numbered(err error) error {
	var echo netlinktest.Echo
	if err == nil || errors.As(err, &echo) {
		return err
	}
	return errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, ErrFull):
		return errnoHashFull
	case errors.Is(err, ErrInUse):
		return errnoBusy
	case errors.Is(err, ErrNoMember):
		return errnoExist
	case errors.Is(err, os.ErrInvalid):
		return errnoSkbInfo
	}
	panic(err)
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
