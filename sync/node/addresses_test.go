package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs/steering"
)

func TestServes(t *testing.T) {
	tests := []struct {
		addr string
		want bool
	}{
		{"10.0.0.1", true}, {"169.254.7.7", true}, {"2001:db8::1", true}, {"fd00::1", true},
		{"127.0.0.1", false}, {"127.8.9.1", false}, {"::1", false}, {"fe80::1", false},
	}
	for _, tt := range tests {
		if got := serves(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("serves(%s) = %t", tt.addr, got)
		}
	}
}

func TestConcerns(t *testing.T) {
	own := netip.MustParseAddr("2001:db8::1")
	tests := []struct {
		name   string
		change steering.Change
		want   bool
	}{
		{"an address comes", steering.Change{Event: unix.RTM_NEWADDR, Addr: own}, true},
		{"an address goes", steering.Change{Event: unix.RTM_DELADDR, Addr: own}, true},
		{"an address is renewed, deprecated, or no more tentative", steering.Change{Event: unix.RTM_NEWADDR, Addr: own, Same: true}, false},
		{"an address goes that another link has, too", steering.Change{Event: unix.RTM_DELADDR, Addr: own, Same: true}, false},
		{"a service address", steering.Change{Event: unix.RTM_NEWADDR, Addr: own, OnLink: true}, false},
		{"a loopback address", steering.Change{Event: unix.RTM_NEWADDR, Addr: netip.MustParseAddr("127.0.0.2")}, false},
		{"the loopback address", steering.Change{Event: unix.RTM_NEWADDR, Addr: netip.IPv6Loopback()}, false},
		{"a link-local address", steering.Change{Event: unix.RTM_NEWADDR, Addr: netip.MustParseAddr("fe80::1")}, false},
		{"a link-local address of IPv4, which may serve", steering.Change{Event: unix.RTM_NEWADDR, Addr: netip.MustParseAddr("169.254.7.7")}, true},
		{"a link", steering.Change{Event: unix.RTM_NEWLINK}, false},
	}
	for _, tt := range tests {
		if got := concerns(tt.change); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// TestThisMachine reads the addresses of the machine that runs the test.
func TestThisMachine(t *testing.T) {
	got, err := Addresses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(got, netip.Addr.Compare) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("%v is not sorted and unique", got)
	}
	for _, a := range got {
		if !a.IsValid() || !serves(a) {
			t.Errorf("%v among them", a)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Addresses(done); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

// TestWatchEnds sees the call at the start, and the end.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	calls := 0
	err := Watch(ctx, func() { calls++; cancel() })
	if !errors.Is(err, context.Canceled) || calls == 0 {
		t.Errorf("%d calls and %v, want one and context.Canceled", calls, err)
	}
}
