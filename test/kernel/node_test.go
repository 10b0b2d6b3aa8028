//go:build kernel

package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNodeAddresses(t *testing.T) {
	k := steerOpen(t)
	steerDo(t, k, steerOps(steering.Add, steering.Item{Kind: steering.Link}, steerItem(steering.Address, "10.96.0.10/32"))...)
	calls := steerWatching(t, node.Watch)
	before := steerSettled(calls)
	steerDo(t, k, steerOps(steering.Add, steerItem(steering.Address, "10.96.0.11/32"))...)
	if steerCalled(calls, before, false) {
		t.Error("called for an address on kube-ipvs0")
	}
	steerShell(t, "ip link add port0 type veth peer name far0; ip link set far0 up; ip link set port0 up; ip address add 192.0.2.1/24 dev port0; ip address add 169.254.7.7/16 dev port0; ip address add 2001:db8::1/64 dev port0 nodad; ip address add 192.0.2.1/32 dev lo; ip address add 198.51.100.1/32 peer 198.51.100.2 dev port0; ip link add kube-ipvs01 type dummy; ip link set kube-ipvs01 up; ip address add 192.0.2.8/32 dev kube-ipvs01; ip address add 10.96.0.11/32 dev port0")
	got, err := node.Addresses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A link with a name like kube-ipvs0 is any other's, and an address that is also elsewhere is the node's all the same.
	want := "10.96.0.11 169.254.7.7 192.0.2.1 192.0.2.8 198.51.100.1 2001:db8::1"
	if line := steerJoin(got); line != want {
		t.Errorf("Addresses = %s, want %s", line, want)
	}
	const late = "2001:db8::2/64"
	for _, tt := range []struct {
		name, hand string
		calls      bool
	}{
		{"an address comes", "ip address add 192.0.2.9/24 dev port0", true},
		{"an IPv6 address goes", "ip address del 2001:db8::1/64 dev port0", true},
		{"an IPv6 address comes, and is tentative for a while", "ip address add " + late + " dev port0; while ip address show dev port0 tentative | grep -q inet6; do :; done", true},
		{"a router renews it", "ip address change " + late + " dev port0 valid_lft 7200 preferred_lft 3600", false},
		{"it is deprecated", "ip address change " + late + " dev port0 valid_lft 7200 preferred_lft 0", false},
		{"it is preferred again", "ip address change " + late + " dev port0 valid_lft 3600 preferred_lft 1800", false},
		{"a lease is renewed", "ip address change 192.0.2.9/24 dev port0 valid_lft 7200 preferred_lft 3600", false},
		{"a loopback address comes", "ip address add 127.0.0.2/8 dev lo", false},
		{"a link with a link-local address comes", "ip link add port1 type dummy; ip link set port1 up", false},
		{"an address comes to another link, too", "ip address add 192.0.2.9/32 dev port1", false},
		{"it goes from the first", "ip address del 192.0.2.9/24 dev port0", false},
		{"the link goes that has it", "ip link del port1", true},
		{"the link goes that has the others", "ip link del port0", true},
	} {
		before := steerSettled(calls)
		steerShell(t, tt.hand)
		if got := steerCalled(calls, before, tt.calls); got != tt.calls {
			t.Errorf("%s: called %t, want %t", tt.name, got, tt.calls)
		}
	}
}

func steerJoin(addrs []netip.Addr) string {
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}
