package inet

import (
	"net/netip"
	"testing"
)

func TestIsOwn(t *testing.T) {
	for addr, want := range map[string]bool{
		"255.18.0.1": true, "255.255.255.254": true, "254.255.255.254": true, "100::1": true, "1ff:ffff:ffff:ffff:ffff:ffff:ffff:fffe": true, "400::1": true,
		"254.255.255.253": false, "10.96.0.1": false, "240.0.0.1": false, "400::2": false, "200::1": false, "fd00::1": false,
	} {
		if got := IsOwn(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is an own address: %v, want %v", addr, got, want)
		}
	}
}
