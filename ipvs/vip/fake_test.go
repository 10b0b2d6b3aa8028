package vip

import (
	"errors"
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
