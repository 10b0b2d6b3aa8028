package ipvs

import (
	"net/netip"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
)

const heading = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
`

// kernelListing is as Linux 6.1 writes it.
const kernelListing = heading +
	"UDP  0A60000A:0035 rr ops \n" +
	"  -> 0AF40102:1F90      Masq    1      0          0         \n" +
	"TCP  0A60000A:0050 rr persistent 10800 FFFFFFFF\n" +
	"  -> 0AF40102:1F90      Masq    100    3          12        \n" +
	"  -> 0AF40103:1F90      Local   0      0          0         \n" +
	"TCP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0050 wlc \n" +
	"  -> [fd00:0001:0000:0000:0000:0000:0000:0002]:1F90      Masq    1      0          0         \n" +
	"SCTP 0A60000A:0BB8 rr persistent -1702967296 FFFFFFFF\n" + // 30 days at 1000 Hz
	"FWM  00000005 rr \n" +
	"  -> [fd00:0001:0000:0000:0000:0000:0000:0002]:0050      Masq    1      0          0         \n" +
	"FWM  00000006 rr \n" +
	"ESP  0A60000A:0000 rr \n" +
	"  -> 0AF40102:0000      Route   1      0          0         \n"

func TestParseListing(t *testing.T) {
	at := netip.MustParseAddrPort
	want := reals{
		AddrKey(inet.UDP, at("10.96.0.10:53")): {at("10.244.1.2:8080"): {Real: Real{Weight: 1}}},
		AddrKey(inet.TCP, at("10.96.0.10:80")): {
			at("10.244.1.2:8080"): {Real: Real{Weight: 100}, Active: 3, Inactive: 12},
			at("10.244.1.3:8080"): {},
		},
		AddrKey(inet.TCP, at("[fd00::a]:80")):     {at("[fd00:1::2]:8080"): {Real: Real{Weight: 1}}},
		AddrKey(inet.SCTP, at("10.96.0.10:3000")): {},
		MarkKey(5, netip.MustParseAddr("::")):     {at("[fd00:1::2]:80"): {Real: Real{Weight: 1}}},
	}
	got, err := parseListing(strings.NewReader(kernelListing))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseListingErrors(t *testing.T) {
	for name, text := range map[string]string{
		"a real server without virtual server": heading + "  -> 0AF40102:1F90      Masq    1      0          0\n",
		"no address":                           heading + "TCP  rr\n",
		"an address that is none":              heading + "TCP  0A60000Z:0050 rr\n",
		"an IPv6 address that is none":         heading + "TCP  [fd00]:0050 rr\n",
		"a port that is none":                  heading + "TCP  0A60000A:10000 rr\n",
		"a mark that is none":                  heading + "FWM  x rr\n",
		"a weight that is none":                heading + "TCP  0A60000A:0050 rr\n  -> 0AF40102:1F90 Masq x 0 0\n",
		"a cut line":                           heading + "TCP  0A60000A:0050 rr\n  -> 0AF40102:1F90 Masq 1",
	} {
		if got, err := parseListing(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
}

// Whatever the text, it does not panic; and what our own writing says, it reads.
func FuzzParseListing(f *testing.F) {
	f.Add(kernelListing)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseListing(strings.NewReader(text))
		if err != nil {
			return
		}
		table := make(Table)
		for key, reals := range found {
			if key.Mark == 0 {
				table[key] = Entry{Server: rr, Reals: reals}
			}
		}
		again, err := parseListing(strings.NewReader(listingOf(table)))
		if err != nil {
			t.Fatal(err)
		}
		if odd := table.join(again); odd != nil {
			t.Errorf("%v lost in writing and reading", odd)
		}
	})
}

// FuzzDecode feeds the parsers of netlink messages; a server that one of them takes must read back the same.
func FuzzDecode(f *testing.F) {
	for _, op := range everyKind {
		f.Add(encodeOp(op))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if key, server, err := parseService(p); err == nil {
			gotKey, got, err := reencode(key, server)
			if err != nil || gotKey != key || got.Timeout != server.Timeout || got.Flags != server.Flags {
				t.Errorf("%v %v became %v %v, %v", key, server, gotKey, got, err)
			}
		}
		_, _, _ = parseDest(p, 2)
	})
}

func BenchmarkParseListing(b *testing.B) {
	table := make(Table)
	for i := range 10_000 {
		entry := Entry{Server: rr, Reals: make(map[netip.AddrPort]RealState)}
		for j := range 10 {
			entry.Reals[netip.AddrPortFrom(pod4.Addr(), uint16(j))] = RealState{Real: Real{Weight: 1}}
		}
		table[AddrKey(inet.TCP, netip.AddrPortFrom(web.Addr, uint16(i)))] = entry
	}
	text := listingOf(table)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseListing(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
