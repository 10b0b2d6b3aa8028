package ipvs

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

var (
	web    = AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.10:80"))
	dns    = AddrKey(inet.UDP, netip.MustParseAddrPort("[fd00::a]:53"))
	inside = MarkKey(5, netip.IPv4Unspecified())
	idle6  = MarkKey(5, netip.IPv6Unspecified())
	pod4   = netip.MustParseAddrPort("10.244.1.2:8080")
	pod6   = netip.MustParseAddrPort("[fd00:1::2]:53")
	rr     = Server{Scheduler: "rr"}
)

// everyKind is one of each: families, marks, with and without real servers, persistence, flags.
var everyKind = []Op{
	{Verb: AddServer, Key: web, Server: Server{Scheduler: "rr", Timeout: 10800}},
	{Verb: AddReal, Key: web, Addr: pod4, Real: Real{Weight: 1}},
	{Verb: AddServer, Key: dns, Server: Server{Scheduler: "mh", Flags: Flag1 | Flag2}},
	{Verb: AddReal, Key: dns, Addr: pod6, Real: Real{Weight: 2}},
	{Verb: AddServer, Key: inside, Server: rr},
	{Verb: AddReal, Key: inside, Addr: pod4, Real: Real{Weight: 3}},
	{Verb: AddServer, Key: idle6, Server: rr},
}

const everyKindText = `mark 5 rr
  -> 10.244.1.2:8080 w3
mark 5 ipv6 rr
tcp 10.96.0.10:80 rr persistent 10800
  -> 10.244.1.2:8080 w1 active 4 inactive 7
udp [fd00::a]:53 mh flag-1 flag-2
  -> [fd00:1::2]:53 w2
`

// filled returns a simulated kernel with everyKind in it.
func filled(t *testing.T) (*sim, *Conn) {
	t.Helper()
	s := newSim()
	c := s.conn(t)
	if errs := c.Do(t.Context(), everyKind); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	if err := s.fake.SetConnections(RealKeyOf(web, pod4), 4, 7); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func wantRead(t *testing.T, k Kernel, want string) {
	t.Helper()
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func TestConnReadsWhatItWrote(t *testing.T) {
	s, c := filled(t)
	wantRead(t, &s.fake, everyKindText)
	wantRead(t, c, everyKindText)
	for key, want := range s.fake.Table() {
		got, err := c.ReadServer(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Table{key: want}.String(), Table{key: got}.String()); diff != "" {
			t.Errorf("ReadServer(%v) (-want +got):\n%s", key, diff)
		}
	}
}

func TestReadWithoutListing(t *testing.T) {
	for name, listing := range map[string]func() (io.ReadCloser, error){
		"unreadable": func() (io.ReadCloser, error) { return nil, os.ErrPermission },
		"cut short": func() (io.ReadCloser, error) {
			return io.NopCloser(iotest.TimeoutReader(strings.NewReader(heading))), nil
		},
		"not a listing": func() (io.ReadCloser, error) { return text("1\n2\n3\nTCP  nonsense rr\n"), nil },
		"of another network namespace": func() (io.ReadCloser, error) {
			return text(heading + "TCP  0A600063:0050 rr\n  -> 0AF40102:1F90 Masq 1 0 0\n"), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := filled(t)
			c.listing = listing
			wantRead(t, c, everyKindText)
		})
	}
}

// Between the dump and the listing another writer is at work.
func TestReadWhileAnotherWrites(t *testing.T) {
	tests := []struct {
		name string
		op   Op
		want string
	}{
		{"a server goes", Op{Verb: DelServer, Key: web}, ""},
		{"a server comes", Op{Verb: AddServer, Key: dns, Server: rr}, "tcp 10.96.0.10:80 rr\nudp [fd00::a]:53 rr\n"},
		{"a mark comes", Op{Verb: AddServer, Key: inside, Server: rr}, "tcp 10.96.0.10:80 rr\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim()
			c := s.conn(t)
			mustDo(t, c, Op{Verb: AddServer, Key: web, Server: rr})
			s.onDump = func() { mustDo(t, &s.fake, tt.op) }
			wantRead(t, c, tt.want)
		})
	}
}

func mustDo(t *testing.T, k Kernel, ops ...Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
}

func TestReadFailsWhole(t *testing.T) {
	s, c := filled(t)
	s.DumpErrno = unix.ENOMEM
	if table, err := c.Read(t.Context()); err == nil || table != nil {
		t.Errorf("Read: %v, %v; want an error alone", table, err)
	}
	if _, err := c.ReadServer(t.Context(), web); !errors.Is(err, netlink.ErrUnknown) {
		t.Errorf("ReadServer: %v, want netlink.ErrUnknown", err)
	}
}

func TestReadServerErrors(t *testing.T) {
	c := newSim().conn(t)
	if _, err := c.ReadServer(t.Context(), web); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ESRCH) {
		t.Errorf("of what is not there: %v, want os.ErrNotExist and ESRCH", err)
	}
	if _, err := c.ReadServer(t.Context(), Key{}); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("of no address: %v, want os.ErrInvalid", err)
	}
}

func TestDoErrors(t *testing.T) {
	c := newSim().conn(t)
	errs := c.Do(t.Context(), []Op{
		{Verb: AddServer, Key: web, Server: Server{Scheduler: "no-such"}},
		{Verb: AddReal, Key: web, Addr: pod4},
		{Verb: DelReal, Key: web, Addr: pod4},
		{Verb: AddServer, Key: web, Server: rr},
		{Verb: AddServer, Key: web, Server: rr},
		{Verb: DelReal, Key: web, Addr: pod4},
		{Verb: DelServer, Key: dns},
		{Verb: AddServer, Key: Key{Port: 80, Proto: inet.TCP}, Server: rr},
	})
	want := []error{os.ErrNotExist, os.ErrNotExist, nil, nil, os.ErrExist, nil, nil, os.ErrInvalid}
	if len(errs) != len(want) {
		t.Fatalf("%d errors, want %d", len(errs), len(want))
	}
	for i := range want {
		if !errors.Is(errs[i], want[i]) {
			t.Errorf("op %d: %v, want %v", i, errs[i], want[i])
		}
	}
	if got, want := c.Stats(), (Stats{Messages: 9, Errors: 4}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
	const text = "ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 0: file does not exist: no such process"
	if got := errs[1].Error(); got != text {
		t.Errorf("error %q, want %q", got, text)
	}
}

func TestModuleLoadedAnew(t *testing.T) {
	s, c := filled(t)
	s.family = 31
	errs := c.Do(t.Context(), []Op{
		{Verb: DelServer, Key: web},
		{Verb: SetServer, Key: web, Server: rr},
		{Verb: SetServer, Key: dns, Server: rr},
	})
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], os.ErrNotExist) || errs[2] != nil {
		t.Errorf("Do: %v, want the second op's error alone", errs)
	}
	s.family = 32
	wantRead(t, c, "mark 5 rr\n  -> 10.244.1.2:8080 w3\nmark 5 ipv6 rr\nudp [fd00::a]:53 rr\n  -> [fd00:1::2]:53 w2\n")
	s.family = 33
	if _, err := c.ReadServer(t.Context(), dns); err != nil {
		t.Errorf("ReadServer: %v", err)
	}
}

func TestModuleGone(t *testing.T) {
	s, c := filled(t)
	s.family = 0
	errs := c.Do(t.Context(), []Op{{Verb: DelServer, Key: web}, {Verb: AddServer, Key: web, Server: rr}})
	if len(errs) != 2 || !errors.Is(errs[0], ErrNoModule) || !errors.Is(errs[1], ErrNoModule) {
		t.Errorf("Do: %v, want ErrNoModule", errs)
	}
	if _, err := c.Read(t.Context()); !errors.Is(err, ErrNoModule) {
		t.Errorf("Read: %v, want ErrNoModule", err)
	}
	if _, err := c.ReadServer(t.Context(), web); !errors.Is(err, ErrNoModule) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadServer: %v, want ErrNoModule and not os.ErrNotExist", err)
	}
	if _, err := c.Timeouts(t.Context()); !errors.Is(err, ErrNoModule) {
		t.Errorf("Timeouts: %v, want ErrNoModule", err)
	}
}

func TestSetTimeoutsErrors(t *testing.T) {
	s, c := filled(t)
	for _, d := range []time.Duration{-time.Second, time.Millisecond, 90500 * time.Millisecond} {
		if err := c.SetTimeouts(t.Context(), Timeouts{UDP: d}); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v: %v, want os.ErrInvalid", d, err)
		}
	}
	s.family = 0
	if err := c.SetTimeouts(t.Context(), Timeouts{UDP: time.Second}); !errors.Is(err, ErrNoModule) {
		t.Errorf("without the module: %v, want ErrNoModule", err)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := open(new(sim).dial(), nil); !errors.Is(err, ErrNoModule) {
		t.Errorf("without the module: %v, want ErrNoModule", err)
	}
	if _, err := open((&sim{family: 30, version: 1<<16 | 2<<8}).dial(), nil); err == nil {
		t.Error("with a table of version 1.2.0: nil error")
	}
	denied := &netlinktest.Socket{Handle: func(netlinktest.Request) error { return unix.EPERM }}
	if _, err := open(netlink.New(denied), nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("without privilege: %v, want os.ErrPermission", err)
	}
}

func TestDoneContext(t *testing.T) {
	s, c := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, k := range map[string]Kernel{"Conn": c, "Fake": &s.fake} {
		if errs := k.Do(ctx, everyKind[:1]); len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
			t.Errorf("%s.Do: %v, want context.Canceled", name, errs)
		}
		if _, err := k.Read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s.Read: %v, want context.Canceled", name, err)
		}
		if _, err := k.ReadServer(ctx, web); !errors.Is(err, context.Canceled) {
			t.Errorf("%s.ReadServer: %v, want context.Canceled", name, err)
		}
	}
}
