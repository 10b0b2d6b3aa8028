package vip

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func item(kind Kind, prefix string) Item {
	return Item{Kind: kind, Prefix: netip.MustParsePrefix(prefix)}
}

func TestFakeString(t *testing.T) {
	f := NewFake()
	divert := item(Divert, "0.0.0.0/0")
	divert.Mark = 0x8000
	errs := f.Do(t.Context(), []Op{
		{Item: Item{Kind: Link}}, {Item: item(LastRoute, "203.0.113.7/32")}, {Item: item(Route, "10.96.0.0/12")},
		{Item: divert}, {Item: item(LastResort, "::/0")}, {Item: item(Address, "10.96.0.10/32")},
	})
	if errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	const want = `ip link add kube-ipvs0 type dummy
ip rule add pref 7598 fwmark 0x8000/0x8000 lookup 7598 (local 0.0.0.0/0 dev lo)
ip rule add pref 37599 lookup 7599 (::/0)
ip route add 10.96.0.0/12 dev kube-ipvs0
ip route add 203.0.113.7/32 dev kube-ipvs0 table 7599
ip address add 10.96.0.10/32 dev kube-ipvs0
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
	if f.Ops() != 6 || f.Reads() != 0 {
		t.Errorf("%d ops and %d reads, want 6 and 0", f.Ops(), f.Reads())
	}
	f.SetStranger(item(Route, "10.0.0.0/8"), true)
	add := []Op{{Item: item(Route, "10.0.0.0/8")}}
	if f.Do(t.Context(), add) == nil {
		t.Error("a route where a stranger's is: no error")
	}
	f.SetStranger(item(Route, "10.0.0.0/8"), false)
	if errs := f.Do(t.Context(), add); errs != nil {
		t.Errorf("a route where a stranger's was: %v", errs)
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

// TestFlaky fails a third of everything, and retries until all is done.
func TestFlaky(t *testing.T) {
	fake := NewFake()
	k := &Flaky{Kernel: fake, Rate: 1. / 3, Rand: rand.New(rand.NewPCG(1, 2))}
	ops := []Op{{Item: Item{Kind: Link}}}
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		ops = append(ops, Op{Item: Item{Kind: Route, Prefix: netip.PrefixFrom(a, 32)}})
	}
	failures, lost := 0, 0
	for len(ops) > 0 {
		var again []Op
		for i, err := range k.Do(t.Context(), ops) {
			if err == nil {
				continue
			}
			failures++
			again = append(again, ops[i])
			if _, done := fake.items[ops[i].Item]; done {
				lost++
			}
		}
		ops = again
	}
	if failures == 0 || lost == 0 || failures == lost {
		t.Errorf("%d failures, of which %d were carried out all the same: want some of both", failures, lost)
	}
	unread := 0
	for {
		items, err := k.Read(t.Context())
		if err == nil && len(items) != 101 {
			t.Errorf("%d items, want 101", len(items))
		}
		if err == nil {
			break
		}
		if unread++; !errors.Is(err, ErrInjected) || unread > 100 {
			t.Fatal(err)
		}
	}
}
