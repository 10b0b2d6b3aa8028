//go:build kernel

package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNodeAddresses(t *testing.T) {
	k := vipOpen(t)
	vipDo(t, k, vipOps(vip.Add, vip.Item{Kind: vip.Link}, vipItem(vip.Address, "10.96.0.10/32"))...)
	calls := vipWatching(t, node.Watch)
	before := vipSettled(calls)
	vipDo(t, k, vipOps(vip.Add, vipItem(vip.Address, "10.96.0.11/32"))...)
	if vipCalled(calls, before, false) {
		t.Error("called for an address on kube-ipvs0")
	}
	vipShell(t, "ip link add port0 type dummy; ip link set port0 up; ip address add 192.0.2.1/24 dev port0; ip address add 169.254.7.7/16 dev port0; ip address add 2001:db8::1/64 dev port0 nodad; ip address add 192.0.2.1/32 dev lo; ip address add 198.51.100.1/32 peer 198.51.100.2 dev port0; ip link add kube-ipvs01 type dummy; ip link set kube-ipvs01 up; ip address add 192.0.2.8/32 dev kube-ipvs01; ip address add 10.96.0.11/32 dev port0")
	got, err := node.Addresses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A link with a name like kube-ipvs0 is any other's, and an address that is also elsewhere is the node's all the same.
	want := "10.96.0.11 169.254.7.7 192.0.2.1 192.0.2.8 198.51.100.1 2001:db8::1"
	if line := vipJoin(got); line != want {
		t.Errorf("Addresses = %s, want %s", line, want)
	}
	for _, hand := range []string{"ip address add 192.0.2.9/24 dev port0", "ip address del 2001:db8::1/64 dev port0"} {
		before := vipSettled(calls)
		vipShell(t, hand)
		if !vipCalled(calls, before, true) {
			t.Errorf("no call for %s", hand)
		}
	}
}

func vipJoin(addrs []netip.Addr) string {
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}
