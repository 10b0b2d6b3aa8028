package conntrack

import (
	"errors"
	"net/netip"
	"testing"

	"kube-ipvs/internal/netlink"
)

func TestParseFlowAllocatesNothing(t *testing.T) {
	for _, f := range []Flow{strays, strays6} {
		p := encodeFlow(f, 1, 0)
		wanted := index([]Frontend{dns, dns6})
		n := testing.AllocsPerRun(100, func() {
			got, err := parseFlow(p)
			if err != nil || got.Flow != f || !wanted.stale(got.Flow) {
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
		if t, err := parseFlow(p); err != nil || !wanted.stale(t.Flow) {
			b.Fatal(t, err)
		}
	}
}
