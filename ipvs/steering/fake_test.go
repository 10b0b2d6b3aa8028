package steering

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func item(kind Kind, prefix string) Item {
	return Item{Kind: kind, Prefix: netip.MustParsePrefix(prefix)}
}

// v4 and v6 tell the family of policies.
var (
	v4 = netip.MustParsePrefix("0.0.0.0/0")
	v6 = netip.MustParsePrefix("::/0")
)

func TestFakeString(t *testing.T) {
	f := NewFake()
	ops := []Op{
		{Item: Item{Kind: Link}}, {Item: item(LastRoute, "203.0.113.7/32")}, {Item: item(Divert, "203.0.113.7/32")},
		{Item: item(Refuse, "255.255.255.254/32")}, {Item: item(Address, "10.96.0.10/32")}, {Item: item(Local, "fd00:96::/108")},
		{Item: item(Local, "10.96.0.0/12"), Source: netip.MustParseAddr("192.0.2.1")},
	}
	for _, i := range append(Policies(v4, 0x1000, 0x10), Policies(v6, 0x1000, 0x10)[0]) {
		ops = append(ops, Op{Item: i})
	}
	if errs := f.Do(t.Context(), ops); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	const want = `ip link add kube-ipvs0 type dummy
ip rule add pref 90 iif lo fwmark 0x10/0x10 lookup 7598
ip rule add pref 91 iif lo fwmark 0x1000/0x1000 goto 93
ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598
ip rule add pref 93 lookup 7597
ip rule add pref 37599 lookup 7599
ip -6 rule add pref 90 iif lo fwmark 0x10/0x10 lookup 7598
ip route add 255.255.255.254/32 dev kube-ipvs0 table local
ip route add local 10.96.0.0/12 dev kube-ipvs0 table local src 192.0.2.1
ip route add local fd00:96::/108 dev kube-ipvs0 table local
ip route add local 203.0.113.7/32 dev kube-ipvs0 table 7598
ip route add 203.0.113.7/32 dev kube-ipvs0 table 7599
ip address add 10.96.0.10/32 dev kube-ipvs0
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
	if f.Ops() != len(ops) || f.Reads() != 0 {
		t.Errorf("%d ops and %d reads, want %d and 0", f.Ops(), f.Reads(), len(ops))
	}
	if errs := f.Do(t.Context(), []Op{{Verb: Del, Item: Item{Kind: Link}}}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	const left = `ip rule add pref 90 iif lo fwmark 0x10/0x10 lookup 7598
ip rule add pref 91 iif lo fwmark 0x1000/0x1000 goto 93
ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598
ip rule add pref 93 lookup 7597
ip rule add pref 37599 lookup 7599
ip -6 rule add pref 90 iif lo fwmark 0x10/0x10 lookup 7598
`
	if diff := cmp.Diff(left, f.String()); diff != "" {
		t.Errorf("String without the link (-want +got):\n%s", diff)
	}
}

func TestFakeStrangers(t *testing.T) {
	f := NewFake()
	stranger := item(Divert, "203.0.113.7/32")
	if errs := f.Do(t.Context(), []Op{{Item: Item{Kind: Link}}}); errs != nil {
		t.Fatal(errs)
	}
	f.SetStranger(stranger, true)
	add := []Op{{Item: stranger}}
	if errs := f.Do(t.Context(), add); len(errs) != 1 || !errors.Is(errs[0], os.ErrExist) {
		t.Errorf("a route where a stranger's is: %v, want os.ErrExist", errs)
	}
	f.SetStranger(stranger, false)
	if errs := f.Do(t.Context(), add); errs != nil {
		t.Errorf("a route where a stranger's was: %v", errs)
	}
}

func TestFakeReadsSources(t *testing.T) {
	f := NewFake()
	local, first, second := item(Local, "10.96.0.0/12"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, source := range []netip.Addr{first, second} {
		if errs := f.Do(t.Context(), []Op{{Item: Item{Kind: Link}}, {Item: local, Source: source}}); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		if items, err := f.Read(t.Context()); err != nil || items[local] != source {
			t.Errorf("the source is %v, %v, want %v", items[local], err, source)
		}
	}
}

func TestFakeFromManyGoroutines(t *testing.T) {
	f := NewFake()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				errs := f.Do(t.Context(), []Op{{Item: Item{Kind: Link}}})
				if _, err := f.Read(t.Context()); err != nil || errs != nil {
					t.Error(err, errs)
				}
				_ = f.String()
			}
		})
	}
	wg.Wait()
	if f.Ops() != 400 || f.Reads() != 400 {
		t.Errorf("%d ops and %d reads, want 400 each", f.Ops(), f.Reads())
	}
}
