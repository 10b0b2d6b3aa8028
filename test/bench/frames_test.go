package main

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"kube-ipvs/ipvs"
)

// A SYN, and a datagram without a checksum of its own. The checksums were computed elsewhere.
func TestFrame(t *testing.T) {
	l := lane{net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	from, to := netip.MustParseAddrPort("10.244.1.11:40000"), netip.MustParseAddrPort("10.96.0.1:80")
	const ethernet = "020000000001" + "020000000002" + "0800"
	for name, tt := range map[string]struct {
		segment
		want string
	}{
		"TCP": {segment{ipvs.TCP, from, to, tcpSYN, 7, 0},
			"45000028000000004006" + "6471" + "0af4010b0a600001" + "9c40005000000007000000005002" + "8000" + "7ceb" + "0000"},
		"UDP": {segment{proto: ipvs.UDP, from: from, to: to}, "4500001c000000004011" + "6472" + "0af4010b0a600001" + "9c40005000080000"},
	} {
		if got := hex.EncodeToString(l.frame(tt.segment)); got != ethernet+tt.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, ethernet+tt.want)
		}
	}
}
