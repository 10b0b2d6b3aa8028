package ipvs

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kube-ipvs/internal/inet"
)

// kernelConnections is as Linux 6.1 writes it: a connection, the template of a persistent client, and one of IPv6.
const kernelConnections = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF4010D BF8C 0A60000D 0050 0AF4020B 1F90 ESTABLISHED   86396
TCP C6336402 0000 CB007116 0050 0AF4010B 1F90 NONE          10797
UDP fd00:0010:0244:0001:0000:0000:0000:0013 BBE6 fd00:0010:0096:0000:0000:0000:0000:000a 0035 fd00:0010:0244:0002:0000:0000:0000:0011 1F91 UDP             299
IP  0AF4010D BF8C 0A60000D 0050 0AF4020B 1F90 NONE             60
`

func TestConnections(t *testing.T) {
	at := netip.MustParseAddrPort
	want := []Connection{
		{inet.TCP, at("10.244.1.13:49036"), at("10.96.0.13:80"), at("10.244.2.11:8080"), "ESTABLISHED"},
		{inet.UDP, at("[fd00:10:244:1::13]:48102"), at("[fd00:10:96::a]:53"), at("[fd00:10:244:2::11]:8081"), "UDP"},
	}
	var got []Connection
	for c, err := range Connections(strings.NewReader(kernelConnections)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConnectionsErrors(t *testing.T) {
	const heading = "Pro FromIP   FPrt\n"
	for name, text := range map[string]string{
		"a line that ends early":      heading + "TCP 0AF4010D BF8C 0A60000D\n",
		"an address that is none":     heading + "TCP 0AF4010Z BF8C 0A60000D 0050 0AF4020B 1F90 ESTABLISHED 1\n",
		"a port that is none":         heading + "TCP 0AF4010D BF8CF 0A60000D 0050 0AF4020B 1F90 ESTABLISHED 1\n",
		"a line that is far too long": heading + strings.Repeat("x", 1<<17) + "\n",
	} {
		var last error
		for _, err := range Connections(strings.NewReader(text)) {
			last = err
		}
		if last == nil || !strings.HasPrefix(last.Error(), "/proc/net/ip_vs_conn: ") {
			t.Errorf("%s: %v", name, last)
		}
	}
}

func FuzzConnections(f *testing.F) {
	f.Add(kernelConnections)
	f.Fuzz(func(t *testing.T, text string) {
		for c, err := range Connections(strings.NewReader(text)) {
			if err == nil && !(c.Client.IsValid() && c.Server.IsValid() && c.Real.IsValid()) {
				t.Errorf("%+v", c)
			}
		}
	})
}
