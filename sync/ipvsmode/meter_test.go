package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// The loads of a frontend include those behind its alias; totals leave aliases and marks out. What the kernel's listing lacks is read.
func TestMeter(t *testing.T) {
	at := netip.MustParseAddrPort("10.244.0.1:8080")
	fe := &plan.Frontend{Address: plan.Address{Addr: netip.MustParseAddr("203.0.113.1"), Port: 80, Protocol: inet.TCP}, Internal: &plan.Internal{}}
	table := new(ipvs.Fake)
	for i, key := range []ipvs.Key{KeyOf(fe.Address), AliasKey(fe.Address), ipvs.MarkKey(7, netip.IPv4Unspecified())} {
		for _, op := range []ipvs.Op{{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}}, {Verb: ipvs.AddReal, Key: key, Addr: at, Real: ipvs.Real{Weight: uint32(i)}}} {
			if errs := table.Do(t.Context(), []ipvs.Op{op}); errs != nil {
				t.Fatal(errs)
			}
		}
		table.SetCounters(ipvs.RealKeyOf(key, at), ipvs.Counters{InBytes: 10})
		if err := table.SetConnections(ipvs.RealKeyOf(key, at), 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	for _, unlisted := range [][]ipvs.Key{nil, {KeyOf(fe.Address), AliasKey(fe.Address)}} {
		table.Unlist(unlisted...)
		t.Run(fmt.Sprintf("listing without %v", unlisted), func(t *testing.T) { testMeter(t, Meter{Table: table}, fe, at) })
	}
}

func testMeter(t *testing.T, m Meter, fe *plan.Frontend, at netip.AddrPort) {
	loads, err := m.Loads(t.Context(), fe)
	expectLoads(t, err, map[netip.AddrPort]loop.Load{at: {Weight: 1, Active: 2, Inactive: 4, Counters: loop.Counters{InBytes: 20}}}, loads)
	of, err := m.AllLoads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loads, err = of(fe)
	expectLoads(t, err, map[netip.AddrPort]loop.Load{at: {Weight: 1, Active: 2, Inactive: 4}}, loads)
	totals, err := m.Totals(t.Context())
	expectLoads(t, err, map[plan.Address]loop.Load{fe.Address: {Active: 1, Inactive: 2, Counters: loop.Counters{InBytes: 10}}}, totals)
}

// A failing table refuses some questions, and counts those about one virtual server.
type failing struct {
	ipvs.Fake
	walk, count error
	counts      int
}

// Walk implements the table of Meter.
func (f *failing) Walk(ctx context.Context, fn func(ipvs.Key, ipvs.Entry)) error {
	if f.walk != nil {
		return f.walk
	}
	return f.Fake.Walk(ctx, fn)
}

// CountReals implements the table of Meter.
func (f *failing) CountReals(ctx context.Context, key ipvs.Key) (map[netip.AddrPort]ipvs.CountedReal, error) {
	if f.counts++; f.count != nil {
		return nil, f.count
	}
	return f.Fake.CountReals(ctx, key)
}

// What cannot be read is an error, not a load of nothing, and the first one ends it: a listing that cannot be read is not made up for by
// one question for each virtual server.
func TestMeterFails(t *testing.T) {
	refused := errors.New("refused")
	for _, tt := range []struct {
		name        string
		walk, count error
		most        int // questions about one virtual server
	}{
		{"nothing is listed", nil, nil, 3},
		{"the listing cannot be read", refused, nil, 0},
		{"what it lacks cannot be read", nil, refused, 1},
	} {
		for reading, read := range map[string]func(Meter) error{
			"Totals": func(m Meter) error {
				_, err := m.Totals(t.Context())
				return err
			},
			"AllLoads": func(m Meter) error {
				of, err := m.AllLoads(t.Context())
				for n := byte(1); n <= 3 && err == nil; n++ {
					_, err = of(&plan.Frontend{Address: AddressOf(server(n))})
				}
				return err
			},
		} {
			t.Run(tt.name+", "+reading, func(t *testing.T) {
				table := &failing{walk: tt.walk, count: tt.count}
				for n := byte(1); n <= 3; n++ {
					for _, op := range []ipvs.Op{
						{Verb: ipvs.AddServer, Key: server(n), Server: ipvs.Server{Scheduler: "rr"}},
						{Verb: ipvs.AddReal, Key: server(n), Addr: pod(1), Real: ipvs.Real{Weight: 1}},
					} {
						if errs := table.Do(t.Context(), []ipvs.Op{op}); errs != nil {
							t.Fatal(errs)
						}
					}
					table.SetCounters(ipvs.RealKeyOf(server(n), pod(1)), ipvs.Counters{InBytes: 10})
				}
				table.Unlist(server(1), server(2), server(3))
				err := read(Meter{Table: table})
				if fails := tt.walk != nil || tt.count != nil; errors.Is(err, refused) != fails || !fails && err != nil || table.counts != tt.most {
					t.Errorf("%v after %d questions about one virtual server, want %d", err, table.counts, tt.most)
				}
			})
		}
	}
}

func expectLoads[K comparable](t *testing.T, err error, want, got map[K]loop.Load) {
	t.Helper()
	same := []cmp.Option{
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b plan.Address) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, same...); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
