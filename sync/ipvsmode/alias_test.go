package ipvsmode

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

func TestAlias(t *testing.T) {
	for _, tt := range []struct{ name, of, want string }{
		{"a cluster IP", "10.96.0.10", "255.96.0.10"},
		{"an external address", "198.51.100.7", "255.51.100.7"},
		{"another with the same low bytes", "203.51.100.7", "255.51.100.7"},
		{"an address whose low bytes are none", "10.0.0.0", "255.0.0.0"},
		{"the alias of an alias", "255.96.0.10", "255.96.0.10"},
		{"IPv6", "2001:db8::7", "101:db8::7"},
		{"a unique local address", "fd00:96::a", "100:96::a"},
		{"all of the low bytes", "20ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		a := netip.MustParseAddr(tt.of)
		got := Alias(a)
		if got.String() != tt.want {
			t.Errorf("%s: alias %v, want %s", tt.name, got, tt.want)
		}
		if r := inet.AliasRange(inet.FamilyOf(a)); !r.Contains(got) || got.Is4() != a.Is4() {
			t.Errorf("%s: %v is not in %v", tt.name, got, r)
		}
	}
}

// NETMAP keeps the bits that the range's mask leaves, so the alias must be made of the same.
func TestAliasIsWhatNETMAPMakes(t *testing.T) {
	for family, of := range map[inet.Family]string{inet.IPv4: "198.51.100.7", inet.IPv6: "2001:db8:1:2:3:4:5:6"} {
		r, a := inet.AliasRange(family), netip.MustParseAddr(of)
		if r != r.Masked() || r.Addr().Is4() != a.Is4() {
			t.Fatalf("%v is not a range of the family", r)
		}
		to, from := r.Addr().AsSlice(), a.AsSlice()
		for i := r.Bits(); i < r.Addr().BitLen(); i++ {
			bit := byte(0x80) >> (i % 8)
			to[i/8] = to[i/8]&^bit | from[i/8]&bit
		}
		want, _ := netip.AddrFromSlice(to)
		if got := Alias(a); got != want {
			t.Errorf("the alias of %v is %v, but NETMAP makes %v", a, got, want)
		}
	}
}

// What is rejected goes where no virtual server is, though an address could have its alias there.
func TestRejectTCPIsNobodysAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		r.change(1, hereAndElsewhere(), atAddress("203.255.255.254"), func(s *plan.Service) { s.Ports[0].Port = 1 })
		r.take()
		if got, ok := r.ipvs.Table()[ipvs.AddrKey(inet.TCP, RejectTCP(inet.IPv4))]; ok {
			t.Errorf("rejected connections are led to %v", got.Reals)
		}
		if got := fmt.Sprint(r.reported()); !strings.Contains(got, "kube-ipvs itself uses the address") {
			t.Errorf("reported: %s", got)
		}
		r.change(1, hereAndElsewhere(), atAddress("203.255.255.254"))
		if r.take(); len(r.aliasOf("203.255.255.254")) == 0 {
			t.Error("another port has no alias")
		}
	})
}

// What is rejected goes where no frontend and no alias is: the aliases of addresses that a Service may have are others.
func TestRejectAddrIsNobodys(t *testing.T) {
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		a := inet.RejectAddr(family)
		if inet.FamilyOf(a) != family || a.IsMulticast() || a.IsUnspecified() || a == netip.MustParseAddr("255.255.255.255") {
			t.Errorf("%v cannot be a destination of the family", a)
		}
	}
	for _, of := range []string{
		"10.96.0.1", "10.111.255.254", "10.254.255.254", "172.31.255.254", "100.127.255.254", "192.168.255.254", "198.19.255.254", "203.0.113.254",
		"fd00::ffff:fffe", "fdff::fffe", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe", "20ff::fffe",
	} {
		if a := netip.MustParseAddr(of); Alias(a) == inet.RejectAddr(inet.FamilyOf(a)) {
			t.Errorf("the alias of %s is where connections are rejected", of)
		}
	}
}
