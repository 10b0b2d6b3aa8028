package ipvs

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
)

// The counters of virtual servers are the sums of their real servers', in 64 bits where the kernel has them.
func TestCounters(t *testing.T) {
	key := AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))
	v6 := AddrKey(inet.UDP, netip.MustParseAddrPort("[fd00::1]:53"))
	a, b := netip.MustParseAddrPort("10.244.0.1:8080"), netip.MustParseAddrPort("10.244.0.2:8080")
	one := Counters{Connections: 1, InPackets: 2, OutPackets: 3, InBytes: 1 << 40, OutBytes: 5}
	large := Counters{Connections: 1<<32 + 1, InPackets: 7}
	for _, tt := range []struct {
		name  string
		old   bool
		large Counters // as read
	}{
		{"64 bits", false, large},
		{"32 bits", true, Counters{Connections: 1, InPackets: 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim()
			s.old = tt.old
			c := s.conn(t)
			for _, err := range c.Do(t.Context(), []Op{
				{Verb: AddServer, Key: key, Server: Server{Scheduler: "rr"}}, {Verb: AddServer, Key: v6, Server: Server{Scheduler: "rr"}},
				{Verb: AddReal, Key: key, Addr: a, Real: Real{Weight: 1}}, {Verb: AddReal, Key: key, Addr: b},
			}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			s.fake.SetCounters(RealKeyOf(key, a), one)
			s.fake.SetCounters(RealKeyOf(key, b), large)
			if err := s.fake.SetConnections(RealKeyOf(key, a), 4, 5); err != nil {
				t.Fatal(err)
			}
			totals, err := c.Totals(t.Context())
			if diff := cmp.Diff(map[Key]Counters{key: one.Add(tt.large), v6: {}}, totals, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			reals, err := c.CountReals(t.Context(), key)
			want := map[netip.AddrPort]CountedReal{
				a: {RealState{Real: Real{Weight: 1}, Active: 4, Inactive: 5}, one}, b: {RealState{}, tt.large},
			}
			if diff := cmp.Diff(want, reals, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
