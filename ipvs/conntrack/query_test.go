package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"kube-ipvs/internal/inet"

	"golang.org/x/sys/unix"
)

func TestQuestions(t *testing.T) {
	many := func(n int, each func(i int) Frontend) (out []Frontend) {
		for i := range n {
			out = append(out, each(i))
		}
		return out
	}
	at := func(proto inet.Protocol, addr string, port int) Frontend {
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
			for _, q := range queries(tt.list) {
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
