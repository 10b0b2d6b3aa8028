package ipset

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

func openFake(t *testing.T, s *socket) *Conn {
	t.Helper()
	c := newConn(netlink.New(s))
	if err := c.agree(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	marked = Set{Name: "KIPVS-A", Type: HashIPPort, Family: inet.IPv4, Marks: true}
	plain  = Set{Name: "KIPVS-B", Type: HashIPPortNet, Family: inet.IPv6}

	networks = Set{Name: "KIPVS-D", Type: HashNet, Family: inet.IPv4}
)

func member(i int) Member {
	return Member{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Proto: 6, Port: uint16(i)}
}

// TestSameAsFake lets a Conn and a Fake carry out the same ops. Every op must end alike, and so must the sets.
func TestSameAsFake(t *testing.T) {
	net := Member{Addr: netip.MustParseAddr("fd00::1"), Proto: 17, Port: 53, Other: netip.MustParsePrefix("2001:db8::/32")}
	op := rapid.Custom(func(t *rapid.T) Op {
		op := Op{Verb: rapid.SampledFrom([]Verb{Add, Add, Del, Test}).Draw(t, "verb"), Set: marked, Member: member(rapid.IntRange(0, 9).Draw(t, "member"))}
		switch rapid.IntRange(0, 11).Draw(t, "set") {
		case 0:
			op.Set, op.Member = plain, net
		case 1:
			op.Set.Name = "KIPVS-NONE"
		case 2:
			op.Set = plain // another family than the member's
		case 3:
			op.Set, op.Member = plain, net
			op.Set.Marks = true // it has none
		case 4, 5:
			op.Set, op.Member = networks, Member{Other: netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), rapid.IntRange(7, 10).Draw(t, "bits"))}
		case 6:
			op.Set = networks // a member of another type
		default:
			op.Mark = Mark{Value: rapid.Uint32().Draw(t, "value"), Mask: 0xff}
		}
		return op
	})
	rapid.Check(t, func(rt *rapid.T) {
		ours, theirs := NewFake(), NewFake()
		limit := rapid.IntRange(0, 12).Draw(rt, "limit")
		ours.SetLimit(limit)
		theirs.SetLimit(limit)
		c := openFake(t, newSocket(theirs))
		for _, s := range []Set{marked, plain, networks} {
			if err := errors.Join(ours.Create(t.Context(), s), c.Create(t.Context(), s)); err != nil {
				rt.Fatal(err)
			}
		}
		ops := rapid.SliceOf(op).Draw(rt, "ops")
		want, got := kinds(ours.Do(t.Context(), ops), len(ops)), kinds(c.Do(t.Context(), ops), len(ops))
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("errors (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ours.String(), theirs.String()); diff != "" {
			rt.Fatalf("sets (-want +got):\n%s", diff)
		}
		for _, s := range []Set{marked, plain, networks} {
			want, _ := ours.Read(t.Context(), s)
			got, err := c.Read(t.Context(), s)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(Save(s, want), Save(s, got)); diff != "" {
				rt.Fatalf("members (-want +got):\n%s", diff)
			}
		}
	})
}

// kinds names the errors by what errors.Is tells.
func kinds(errs []error, n int) []string {
	names := make([]string, n)
	for i, err := range errs {
		for _, kind := range []error{ErrFull, ErrInUse, ErrNoMember, os.ErrNotExist, os.ErrInvalid, os.ErrExist} {
			if errors.Is(err, kind) {
				names[i] = kind.Error()
			}
		}
		if err != nil && names[i] == "" {
			names[i] = err.Error()
		}
	}
	return names
}

// TestMessages counts messages: ops share them.
func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		ops  func(int) Op
		n    int
		want int
	}{
		{"none", nil, 0, 0},
		{"one", func(i int) Op { return Op{Set: marked, Member: member(i)} }, 1, 1},
		{"as many as share a message", func(i int) Op { return Op{Set: marked, Member: member(i)} }, maxLines, 1},
		{"one more", func(i int) Op { return Op{Set: marked, Member: member(i)} }, maxLines + 1, 2},
		{"two sets in turn", func(i int) Op {
			return Op{Set: []Set{marked, {Name: "KIPVS-C", Type: HashIPPort, Family: inet.IPv4}}[i%2], Member: member(i)}
		}, 100, 2},
		{"questions, in one send", func(i int) Op { return Op{Verb: Test, Set: marked, Member: member(0)} }, 10, 10},
		{"verbs in turn", func(i int) Op { return Op{Verb: Verb(i % 2), Set: marked, Member: member(i)} }, 10, 10},
		{"long members, which fill a message by their bytes", func(i int) Op {
			a := netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
			return Op{Set: plain, Member: Member{Addr: a, Proto: 6, Port: 1, Other: netip.MustParsePrefix("fd00::/8")}}
		}, 1000, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFake()
			s := newSocket(f)
			c := openFake(t, s)
			for _, set := range []Set{marked, plain, {Name: "KIPVS-C", Type: HashIPPort, Family: inet.IPv4}} {
				if err := f.Create(t.Context(), set); err != nil {
					t.Fatal(err)
				}
			}
			if errs := f.Do(t.Context(), []Op{{Set: marked, Member: member(0)}}); errs != nil {
				t.Fatal(errs)
			}
			var ops []Op
			for i := range tt.n {
				ops = append(ops, tt.ops(i))
			}
			before := s.Sent
			if errs := c.Do(t.Context(), ops); errs != nil {
				t.Fatal(errors.Join(errs...))
			}
			if got := s.Sent - before; got != tt.want {
				t.Errorf("%d messages, want %d", got, tt.want)
			}
		})
	}
}

func TestKernelsThatDoNotFit(t *testing.T) {
	tests := []struct {
		name string
		odd  func(*socket)
		want error
	}{
		{"older protocol", func(s *socket) { s.protocol = [2]byte{4, 5} }, errors.ErrUnsupported},
		{"newer protocol", func(s *socket) { s.protocol = [2]byte{8, 9} }, errors.ErrUnsupported},
		{"protocol 6 alone", func(s *socket) { s.protocol = [2]byte{6, 6} }, nil},
		{"set types without marks", func(s *socket) { s.revision = [2]byte{0, 4} }, errors.ErrUnsupported},
		{"set types of newer revisions alone", func(s *socket) { s.revision = [2]byte{6, 9} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSocket(NewFake())
			tt.odd(s)
			c := newConn(netlink.New(s))
			err := c.agree(t.Context())
			if err == nil {
				err = c.Create(t.Context(), marked)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestInterruptedDumpIsAnError(t *testing.T) {
	f := NewFake()
	s := newSocket(f)
	c := openFake(t, s)
	if err := c.Create(t.Context(), marked); err != nil {
		t.Fatal(err)
	}
	s.interrupt = true
	_, readErr := c.Read(t.Context(), marked)
	_, namesErr := c.Names(t.Context())
	for _, err := range []error{readErr, namesErr} {
		if !errors.Is(err, netlink.ErrUnknown) {
			t.Errorf("%v, want ErrUnknown", err)
		}
	}
}

func TestLostAnswerIsAnError(t *testing.T) {
	f := NewFake()
	s := newSocket(f)
	c := openFake(t, s)
	s.Handle = nil // never answers
	errs := c.Do(t.Context(), []Op{{Set: marked, Member: member(1)}, {Set: marked, Member: member(2)}})
	for i, err := range errs {
		if !errors.Is(err, netlink.ErrUnknown) {
			t.Errorf("op %d: %v, want ErrUnknown", i, err)
		}
	}
	if len(errs) != 2 {
		t.Errorf("%d errors, want 2", len(errs))
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		errno syscall.Errno
		want  error
	}{
		{errnoHashFull, ErrFull}, {errnoBusy, ErrInUse}, {errnoReferenced, ErrInUse}, {errnoFindType, errors.ErrUnsupported},
		{errnoProtocol, os.ErrInvalid}, {errnoNotIPv4, os.ErrInvalid}, {errnoSkbInfo, os.ErrInvalid}, {4999, os.ErrInvalid},
		{2, os.ErrNotExist}, {1, os.ErrPermission},
	}
	for _, tt := range tests {
		if err := translate(fmt.Errorf("do: %w", &netlink.Error{Errno: tt.errno})); !errors.Is(err, tt.want) {
			t.Errorf("error %d: %v, want %v", tt.errno, err, tt.want)
		}
	}
}
