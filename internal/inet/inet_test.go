package inet

import (
	"net/netip"
	"testing"
)

func TestFamilies(t *testing.T) {
	for addr, want := range map[string]string{"10.0.0.1": "IPv4", "fd00::1": "IPv6", "::ffff:10.0.0.1": "IPv6"} {
		if got := FamilyOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if got := Family(7).String(); got != "family(7)" {
		t.Errorf("family 7 is %q", got)
	}
}

func TestProtocols(t *testing.T) {
	for p, want := range map[Protocol]string{TCP: "tcp", UDP: "udp", SCTP: "sctp", 1: "protocol(1)"} {
		if got := p.String(); got != want {
			t.Errorf("protocol %d is %q, want %q", uint8(p), got, want)
		}
	}
}
