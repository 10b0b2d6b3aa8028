package ipvsmode

import (
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
	expectLoads(t, err, map[netip.AddrPort]loop.Load{at: {Weight: 1, Active: 2, Inactive: 4}}, of(fe))
	totals, err := m.Totals(t.Context())
	expectLoads(t, err, map[plan.Address]loop.Load{fe.Address: {Active: 1, Inactive: 2, Counters: loop.Counters{InBytes: 10}}}, totals)
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
