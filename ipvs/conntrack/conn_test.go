package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

const udp = unix.IPPROTO_UDP

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

func flow(proto uint8, client, frontend, endpoint string) Flow {
	at := netip.MustParseAddrPort
	return Flow{Proto: proto, Client: at(client), Frontend: at(frontend), Endpoint: at(endpoint)}
}

func frontend(proto uint8, at string, keep ...string) Frontend {
	f := Frontend{Proto: proto, At: netip.MustParseAddrPort(at), Keep: make(map[netip.AddrPort]struct{})}
	for _, k := range keep {
		f.Keep[netip.MustParseAddrPort(k)] = struct{}{}
	}
	return f
}

var (
	stays   = flow(udp, "10.0.0.1:4000", "10.96.0.10:53", "10.244.0.2:53")
	strays  = flow(udp, "10.0.0.1:4001", "10.96.0.10:53", "10.244.0.3:53")
	strays6 = flow(udp, "[fd02::1]:4000", "[fd00::a]:53", "[fd01::3]:53")
	other   = flow(udp, "10.0.0.1:4001", "10.96.0.11:53", "10.244.0.3:53")
	dns     = frontend(udp, "10.96.0.10:53", "10.244.0.2:53")
	dns6    = frontend(udp, "[fd00::a]:53")
)

func wantFlows(t *testing.T, got []Flow, want ...Flow) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestDelete(t *testing.T) {
	for name, s := range map[string]*sim{
		"a kernel that does not know the filter": {},
		"a kernel that refuses the filter":       {noFilter: true},
		"flows in a zone":                        {zone: 7},
	} {
		t.Run(name, func(t *testing.T) {
			s.flows = []Flow{stays, strays, strays6, other}
			c := &Conn{nl: netlink.New(s)}
			n, err := c.Delete(t.Context(), []Frontend{dns, dns6})
			if n != 2 || err != nil {
				t.Errorf("Delete: %d, %v; want 2, nil", n, err)
			}
			wantFlows(t, s.flows, stays, other)
			if got := c.Stats(); got.Deleted != 2 || got.Seen != 4 {
				t.Errorf("Stats() = %+v, want 4 seen and 2 deleted", got)
			}
		})
	}
}

// A flow that ends between the dump and its deletion is no error and not counted.
func TestDeleteWhatIsGone(t *testing.T) {
	s := &sim{flows: []Flow{strays, strays6}}
	s.afterDump = func() { s.flows = []Flow{strays6} }
	c := &Conn{nl: netlink.New(s)}
	if n, err := c.Delete(t.Context(), []Frontend{dns}); n != 0 || err != nil {
		t.Errorf("Delete: %d, %v; want 0, nil", n, err)
	}
	wantFlows(t, s.flows, strays6)
}

func TestDeleteErrors(t *testing.T) {
	s := &sim{flows: []Flow{strays}, deleteErrno: unix.EPERM}
	c := &Conn{nl: netlink.New(s)}
	if n, err := c.Delete(t.Context(), []Frontend{dns}); n != 0 || !errors.Is(err, os.ErrPermission) {
		t.Errorf("refused: %d, %v; want 0, os.ErrPermission", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, k := range map[string]Kernel{"Conn": c, "Fake": new(Fake)} {
		if _, err := k.Delete(ctx, []Frontend{dns}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a done context: %v, want context.Canceled", name, err)
		}
	}
	if n, err := c.Delete(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("no frontends: %d, %v; want 0, nil", n, err)
	}
}

func TestFakeDelete(t *testing.T) {
	var f Fake
	f.Add(stays, strays, strays6, other)
	if n, err := f.Delete(t.Context(), []Frontend{dns, dns6}); n != 2 || err != nil {
		t.Errorf("Delete: %d, %v; want 2, nil", n, err)
	}
	wantFlows(t, f.Flows(), stays, other)
	if got := f.Calls(); len(got) != 1 || len(got[0]) != 2 {
		t.Errorf("Calls() = %v, want one of two frontends", got)
	}
}

func TestQuestions(t *testing.T) {
	many := func(n int, each func(i int) Frontend) (out []Frontend) {
		for i := range n {
			out = append(out, each(i))
		}
		return out
	}
	at := func(proto uint8, addr string, port int) Frontend {
		return Frontend{Proto: proto, At: netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))}
	}
	tests := []struct {
		name string
		list []Frontend
		want []filter
	}{
		{"none", nil, nil},
		{"one of IPv4", []Frontend{dns}, []filter{{dst: dns.At.Addr(), port: 53, proto: udp}}},
		{"one of IPv6, whose address is no filter", []Frontend{dns6}, []filter{{port: 53, proto: udp}}},
		{
			"many with one address and protocol",
			many(maxDumps+1, func(i int) Frontend { return at(udp, "10.96.0.10", i+1) }),
			[]filter{{dst: dns.At.Addr(), proto: udp}},
		},
		{
			"many with one protocol and port",
			many(maxDumps+1, func(i int) Frontend {
				return Frontend{Proto: udp, At: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), 53)}
			}),
			[]filter{{port: 53, proto: udp}},
		},
		{
			"many with one port and different protocols",
			append(many(maxDumps, func(i int) Frontend {
				return Frontend{Proto: udp, At: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), 53)}
			}), at(unix.IPPROTO_TCP, "10.96.1.1", 53)),
			[]filter{{}},
		},
		{
			"many of IPv6 with one address",
			many(maxDumps+1, func(i int) Frontend { return at(udp, "fd00::a", i+1) }),
			[]filter{{proto: udp}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []filter
			asked := 0
			for _, q := range questions(tt.list) {
				got = append(got, q.only)
				asked += len(q.wanted)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("filters %v, want %v", got, tt.want)
			}
			if asked != len(tt.list) {
				t.Errorf("%d frontends asked for, want %d", asked, len(tt.list))
			}
		})
	}
}

func TestParseFlowAllocatesNothing(t *testing.T) {
	for _, f := range []Flow{strays, strays6} {
		p := encodeFlow(f, 1, 0)
		wanted := index([]Frontend{dns, dns6})
		n := testing.AllocsPerRun(100, func() {
			got, err := parseFlow(p)
			if err != nil || got.Flow != f || !wanted.astray(got.Flow) {
				t.Errorf("%v became %v, %v", f, got.Flow, err)
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations, want 0", f, n)
		}
	}
}

func FuzzParseFlow(f *testing.F) {
	f.Add(encodeFlow(strays, 1, 0))
	f.Add(encodeFlow(strays6, 1, 7))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := parseFlow(p)
		if err != nil {
			if !errors.Is(err, netlink.ErrMalformed) {
				t.Errorf("error %v, want netlink.ErrMalformed", err)
			}
			return
		}
		for _, at := range []netip.AddrPort{got.Client, got.Frontend, got.Endpoint} {
			if !at.IsValid() || at.Addr().Is4() != got.Client.Addr().Is4() {
				return // an answer that no kernel gives
			}
		}
		again, err := parseFlow(encodeFlow(got.Flow, 1, 0))
		if err != nil || again.Flow != got.Flow {
			t.Errorf("%v became %v, %v", got.Flow, again.Flow, err)
		}
	})
}

func BenchmarkParseFlow(b *testing.B) {
	p := encodeFlow(strays, 1, 0)
	wanted := index([]Frontend{dns})
	b.ReportAllocs()
	for b.Loop() {
		if t, err := parseFlow(p); err != nil || !wanted.astray(t.Flow) {
			b.Fatal(t, err)
		}
	}
}
