package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

// A sim is the kernel's side of the socket: it takes the bytes apart and answers from a Fake. It is as strict as the
// kernel about the family's number.
type sim struct {
	fake    Fake
	family  uint16 // 0: no module
	version uint32
	queue   [][]byte
	dumpErr syscall.Errno // at the end of every dump
	onDump  func()        // after a dump of virtual servers was answered
}

func newSim() *sim { return &sim{family: 30, version: oldestVersion} }

// conn returns a connection to the simulated kernel.
func (s *sim) conn(t *testing.T) *Conn {
	t.Helper()
	c, err := open(netlink.New(s), func() (io.ReadCloser, error) { return text(listingOf(s.fake.Table())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

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
		errno, ok := s.message(m).(syscall.Errno)
		dump := m.Header.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
		switch {
		case ok && errno != 0:
			s.reply(m, unix.NLMSG_ERROR, number(errno))
		case dump:
			s.reply(m, unix.NLMSG_DONE, number(s.dumpErr))
		case m.Header.Flags&unix.NLM_F_ACK != 0:
			s.reply(m, unix.NLMSG_ERROR, number(0))
		}
	}
	return err
}

// number is the beginning of struct nlmsgerr, whose rest may be missing.
func number(errno syscall.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

func (s *sim) reply(to syscall.NetlinkMessage, typ uint16, payload []byte) {
	p := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = binary.NativeEndian.AppendUint16(p, 0)
	p = binary.NativeEndian.AppendUint32(p, to.Header.Seq)
	p = binary.NativeEndian.AppendUint32(p, 0)
	s.queue = append(s.queue, append(p, payload...))
}

// answer replies with a generic netlink message of the attributes that fill appends.
func (s *sim) answer(to syscall.NetlinkMessage, fill func(*netlink.Batch)) {
	var b netlink.Batch
	b.BeginGeneric(s.family, 0, 1, familyVersion)
	fill(&b)
	b.End()
	s.reply(to, s.family, b.Bytes()[unix.SizeofNlMsghdr:])
}

func (s *sim) message(m syscall.NetlinkMessage) error {
	switch {
	case m.Header.Type == unix.NLMSG_NOOP:
		return nil
	case m.Header.Type == unix.GENL_ID_CTRL && s.family != 0:
		s.answer(m, func(b *netlink.Batch) { b.Uint16(unix.CTRL_ATTR_FAMILY_ID, s.family) })
		return nil
	case m.Header.Type != s.family:
		return unix.ENOENT
	}
	switch cmd := m.Data[0]; cmd {
	case cmdGetInfo:
		s.answer(m, func(b *netlink.Batch) { b.Uint32(attrInfoVersion, s.version) })
		return nil
	case cmdGetService:
		return s.getService(m)
	case cmdGetDest:
		return s.getDest(m)
	default:
		return s.change(Verb(slices.Index(commands[:], cmd)), m.Data)
	}
}

func (s *sim) getService(m syscall.NetlinkMessage) error {
	table := s.fake.Table()
	if m.Header.Flags&unix.NLM_F_DUMP == 0 {
		key, _, err := parseService(m.Data)
		entry, ok := table[key]
		if err != nil || !ok {
			return unix.ESRCH
		}
		s.service(m, key, entry)
		return nil
	}
	for key, entry := range table {
		s.service(m, key, entry)
	}
	if s.onDump != nil {
		s.onDump()
	}
	return nil
}

func (s *sim) service(m syscall.NetlinkMessage, key Key, entry Entry) {
	s.answer(m, func(b *netlink.Batch) {
		nest := b.Nest(attrService)
		appendKey(b, key)
		flagged := entry.Server
		flagged.Flags |= flagHashed
		appendServer(b, key.Addr, flagged)
		b.Unnest(nest)
	})
}

func (s *sim) getDest(m syscall.NetlinkMessage) error {
	key, _, err := parseService(m.Data)
	for at, state := range s.fake.Table()[key].Reals {
		s.answer(m, func(b *netlink.Batch) {
			nest := b.Nest(attrDest)
			b.Addr(destAddr, at.Addr())
			b.Uint16BE(destPort, at.Port())
			b.Uint32(destWeight, state.Weight)
			b.Uint32(destActive, state.Active)
			b.Uint32(destInactive, state.Inactive)
			b.Unnest(nest)
		})
	}
	return err
}

func (s *sim) change(verb Verb, payload []byte) error {
	key, server, err := parseService(payload)
	if err != nil {
		return unix.EINVAL
	}
	op := Op{Verb: verb, Key: key, Server: server}
	if verb >= AddReal {
		at, state, err := parseDest(payload, 0)
		if err != nil {
			return unix.EINVAL
		}
		op.Addr, op.Real = at, state.Real
	}
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	if s.fake.table == nil {
		s.fake.table = make(Table)
	}
	return s.fake.table.apply(op)
}

// listingOf writes a table as /proc/net/ip_vs does.
func listingOf(t Table) string {
	var b strings.Builder
	b.WriteString("IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
	for _, key := range slices.SortedFunc(maps.Keys(t), Key.Compare) {
		entry := t[key]
		at := fmt.Sprintf("%s  [%s]:%04X", strings.ToUpper(key.Proto.String()), key.Addr.StringExpanded(), key.Port)
		switch {
		case key.Mark != 0:
			at = fmt.Sprintf("FWM  %08X", key.Mark)
		case key.Addr.Is4():
			at = fmt.Sprintf("%-4s %X:%04X", strings.ToUpper(key.Proto.String()), key.Addr.As4(), key.Port)
		}
		fmt.Fprintf(&b, "%s %s ", at, entry.Server.Scheduler)
		if entry.Server.Timeout != 0 {
			fmt.Fprintf(&b, "persistent %d FFFFFFFF", entry.Server.Timeout)
		}
		b.WriteByte('\n')
		for real, state := range entry.Reals {
			at := fmt.Sprintf("[%s]", real.Addr().StringExpanded())
			if real.Addr().Is4() {
				at = fmt.Sprintf("%X", real.Addr().As4())
			}
			fmt.Fprintf(&b, "  -> %s:%04X      %-7s %-6d %-10d %-10d\n", at, real.Port(), "Masq", state.Weight, state.Active, state.Inactive)
		}
	}
	return b.String()
}
