package ipvs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

// A sim is the kernel behind a socket: it parses requests and answers from a Fake. It is as strict as the kernel about
// the family's number.
type sim struct {
	netlinktest.Socket
	fake    Fake
	family  uint16 // 0: no module
	version uint32
	old     bool   // its counters are those of Linux before 4.1
	onDump  func() // after a dump of virtual servers was answered
}

func newSim() *sim { return &sim{family: 30, version: oldestVersion} }

func (s *sim) dial() *netlink.Conn {
	s.Handle = s.message
	return netlink.New(&s.Socket)
}

// conn returns a connection to the simulated kernel.
func (s *sim) conn(t *testing.T) *Conn {
	t.Helper()
	c, err := open(s.dial(), func() (io.ReadCloser, error) { return text(listingOf(s.fake.Table())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

// answer replies with a generic netlink message of the attributes that fill appends.
func (s *sim) answer(to netlinktest.Request, fill func(*netlink.Batch)) {
	var b netlink.Batch
	b.BeginGeneric(s.family, 0, 1, familyVersion)
	fill(&b)
	b.End()
	to.Reply(s.family, 0, b.Bytes()[unix.SizeofNlMsghdr:])
}

func (s *sim) message(m netlinktest.Request) error {
	switch {
	case m.Type == unix.NLMSG_NOOP:
		return nil
	case m.Type == unix.GENL_ID_CTRL && s.family != 0:
		s.answer(m, func(b *netlink.Batch) { b.Uint16(unix.CTRL_ATTR_FAMILY_ID, s.family) })
		return nil
	case m.Type != s.family:
		return unix.ENOENT
	}
	switch cmd := m.Payload[0]; cmd {
	case cmdGetInfo:
		s.answer(m, func(b *netlink.Batch) { b.Uint32(attrInfoVersion, s.version) })
		return nil
	case cmdGetService:
		return s.getService(m)
	case cmdGetDest:
		return s.getDest(m)
	default:
		return s.change(Verb(slices.Index(commands[:], cmd)), m.Payload)
	}
}

func (s *sim) getService(m netlinktest.Request) error {
	table := s.fake.Table()
	if m.Flags&unix.NLM_F_DUMP == 0 {
		key, _, err := parseService(m.Payload)
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

func (s *sim) service(m netlinktest.Request, key Key, entry Entry) {
	s.answer(m, func(b *netlink.Batch) {
		nest := b.Nest(attrService)
		appendKey(b, key)
		flagged := entry.Server
		flagged.Flags |= flagHashed
		appendServer(b, key.Addr, flagged)
		totals, _ := s.fake.Totals(context.Background())
		s.stats(b, svcStats, svcStats64, totals[key])
		b.Unnest(nest)
	})
}

// stats appends counters. Newer kernels send them twice: the narrow ones first.
func (s *sim) stats(b *netlink.Batch, narrow, wide uint16, c Counters) {
	write := func(typ uint16, count func(typ uint16, n uint64)) {
		nest := b.Nest(typ)
		for typ, n := range map[uint16]uint64{statConnections: c.Connections, statInPackets: c.InPackets, statOutPackets: c.OutPackets} {
			count(typ, n)
		}
		for typ, n := range map[uint16]uint64{statInBytes: c.InBytes, statOutBytes: c.OutBytes} {
			uint64Attr(b, typ, n)
		}
		b.Unnest(nest)
	}
	write(narrow, func(typ uint16, n uint64) { b.Uint32(typ, uint32(n)) })
	if !s.old {
		write(wide, func(typ uint16, n uint64) { uint64Attr(b, typ, n) })
	}
}

func uint64Attr(b *netlink.Batch, typ uint16, n uint64) {
	b.Data(typ, binary.NativeEndian.AppendUint64(nil, n))
}

func (s *sim) getDest(m netlinktest.Request) error {
	key, _, err := parseService(m.Payload)
	for at, state := range s.fake.Table()[key].Reals {
		s.answer(m, func(b *netlink.Batch) {
			nest := b.Nest(attrDest)
			b.Addr(destAddr, at.Addr())
			b.Uint16BE(destPort, at.Port())
			b.Uint32(destWeight, state.Weight)
			b.Uint32(destActive, state.Active)
			b.Uint32(destInactive, state.Inactive)
			counted, _ := s.fake.CountReals(context.Background(), key)
			s.stats(b, destStats, destStats64, counted[at].Counters)
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
