//go:build kernel

package kernel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"kube-ipvs/ipvs/vip"
)

func vipOpen(t *testing.T) *vip.Conn {
	t.Helper()
	ipsetNamespace(t)
	ipsetRun(t, "ip", "link", "set", "lo", "up")
	k, err := vip.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// vipShell runs a line of the shell in the test's network namespace.
func vipShell(t *testing.T, line string) string {
	t.Helper()
	return ipsetRun(t, "sh", "-ec", line)
}

func TestVIPKernel(t *testing.T) {
	vipConforms(t, func(t *testing.T) vipHost {
		return vipHost{
			Kernel: vipOpen(t),
			stranger: func(i vip.Item) {
				family := "-4"
				if i.Prefix.Addr().Is6() {
					family = "-6"
				}
				vipShell(t, "ip "+family+" route add "+i.Prefix.String()+" dev lo proto 199")
			},
			noIPv6: func() {
				vipShell(t, "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
			},
		}
	})
}

// TestVIPCommands states in the words of ip(8) what the items are.
func TestVIPCommands(t *testing.T) {
	k := vipOpen(t)
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	tests := []struct{ command, want string }{
		{"ip -4 rule show pref 7598", "7598: from all fwmark 0x8000/0x8000 lookup 7598 proto 175"},
		{"ip -6 rule show pref 7598", "7598: from all fwmark 0x8000/0x8000 lookup 7598 proto 175"},
		{"ip -4 rule show pref 37599", "37599: from all lookup 7599 proto 175"},
		{"ip -6 rule show pref 37599", "37599: from all lookup 7599 proto 175"},
		{"ip -4 route show table 7598", "local default dev lo proto 175 scope host"},
		{"ip -6 route show table 7598", "local default dev lo proto 175 metric 1024 pref medium"},
		{"ip -4 route show table main", "10.96.0.0/12 dev kube-ipvs0 proto 175 scope link 10.200.0.1 dev kube-ipvs0 proto 175 scope link"},
		{"ip -6 route show table main", "fd00:96::/108 dev kube-ipvs0 proto 175 metric 1024 pref medium"},
		{"ip -4 route show table 7599", "203.0.113.7 dev kube-ipvs0 proto 175 scope link"},
		{"ip -6 route show table 7599", "2001:db8::7 dev kube-ipvs0 proto 175 metric 1024 pref medium"},
		{"ip -brief address show dev kube-ipvs0", "kube-ipvs0 UNKNOWN 10.96.0.10/32 fd00:96::10/128"},
		{"ip -details link show kube-ipvs0 | grep -o 'BROADCAST,NOARP,UP,LOWER_UP\\|addrgenmode none\\|dummy'", "BROADCAST,NOARP,UP,LOWER_UP dummy addrgenmode none"},
	}
	for _, tt := range tests {
		if got := strings.Join(strings.Fields(vipShell(t, tt.command)), " "); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.command, got, tt.want)
		}
	}
}

// TestVIPHands lets other hands change what is ours, and states what is read then and what is there after it was made
// again and what is too much was removed.
func TestVIPHands(t *testing.T) {
	link, divert, route := vip.Item{Kind: vip.Link}, vipItem(vip.Divert, "0.0.0.0/0"), vipItem(vip.Route, "10.96.0.0/12")
	left := vip.Item{Kind: vip.Divert, Prefix: divert.Prefix}
	want := []vip.Item{link, divert, vipItem(vip.LastResort, "0.0.0.0/0"), route}
	other := divert
	other.Mark = 0x4000
	tests := []struct {
		name string
		hand string
		read []vip.Item // what is read of want, and beside it
	}{
		{"nothing", "true", want},
		{"the link is down", "ip link set kube-ipvs0 down", want[1:3]},
		{"the link has ARP", "ip link set kube-ipvs0 arp on", want[1:]},
		{"the link makes addresses", "ip link set kube-ipvs0 addrgenmode eui64", want[1:]},
		{"the divert route is gone", "ip route flush table 7598", append([]vip.Item{left}, link, want[2], route)},
		{"the divert route leads elsewhere", "ip route replace local default dev kube-ipvs0 table 7598", append([]vip.Item{left}, link, want[2], route)},
		{"the divert rule is gone", "ip rule del pref 7598", append([]vip.Item{left}, link, want[2], route)},
		{"another mark is diverted", "ip rule add pref 7598 fwmark 0x4000/0x4000 lookup 7598", append([]vip.Item{other}, want...)},
		{"a rule of an older version", "ip rule add pref 99 fwmark 0x8000/0x8000 lookup 7598", append([]vip.Item{left}, want...)},
		{"a rule with another mask", "ip rule add pref 7598 fwmark 0x8000/0xffff lookup 7598", append([]vip.Item{left}, want...)},
		{"the last resort comes first", "ip rule del pref 37599; ip rule add pref 5 lookup 7599", []vip.Item{link, divert, route}},
		{"our route leads elsewhere", "ip route change 10.96.0.0/12 dev lo scope link proto 175", want[:3]},
		{"our route has another scope", "ip route change 10.96.0.0/12 dev kube-ipvs0 scope global proto 175", want[:3]},
		{"one route too many", "ip route add 10.7.0.0/16 dev kube-ipvs0 proto 175", append([]vip.Item{vipItem(vip.Route, "10.7.0.0/16")}, want...)},
		{"a stranger's route over the link", "ip route add 10.7.0.0/16 dev kube-ipvs0", want},
		{"an address", "ip address add 10.9.0.1/24 dev kube-ipvs0", append([]vip.Item{{Kind: vip.Address, Prefix: netip.MustParsePrefix("10.9.0.1/24")}}, want...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := vipOpen(t)
			vipDo(t, k, vipOps(vip.Add, want...)...)
			vipShell(t, tt.hand)
			vipHas(t, k, tt.read...)
			vipReconcile(t, k, want)
			vipHas(t, k, want...)
		})
	}
}

// vipReconcile adds what is wanted and not there, and removes what is there and not wanted.
func vipReconcile(t *testing.T, k vip.Kernel, want []vip.Item) {
	t.Helper()
	there, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ops []vip.Op
	for _, i := range want {
		if _, ok := there[i]; !ok {
			ops = append(ops, vip.Op{Item: i})
		}
		delete(there, i)
	}
	for i := range there {
		ops = append(ops, vip.Op{Verb: vip.Del, Item: i})
	}
	vipDo(t, k, ops...)
}

// TestVIPStrangersStay removes all that is ours and sees that what is not is still there.
func TestVIPStrangersStay(t *testing.T) {
	k := vipOpen(t)
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	vipShell(t, "ip route add 10.7.0.0/16 dev lo proto 199; ip route append 10.96.0.0/12 dev lo proto 199; ip rule add pref 7598 fwmark 1 lookup 99")
	vipDo(t, k, vipOps(vip.Del, vipAll()[1:]...)...)
	got := strings.Join(strings.Fields(vipShell(t, "ip -4 route show; ip -4 rule show pref 7598; ip -6 rule show | wc -l")), " ")
	const want = "10.7.0.0/16 dev lo proto 199 scope link 10.96.0.0/12 dev lo proto 199 scope link 7598: from all fwmark 0x1 lookup 99 2"
	if got != want {
		t.Errorf("after removal:\n got %q\nwant %q", got, want)
	}
	vipShell(t, "ip link del kube-ipvs0; ip link add kube-ipvs0 type veth peer name other")
	for _, verb := range []vip.Verb{vip.Add, vip.Del} {
		if err := errors.Join(k.Do(t.Context(), []vip.Op{{Verb: verb, Item: vip.Item{Kind: vip.Link}}})...); err == nil {
			t.Errorf("verb %d of a link that is a veth: success", verb)
		}
	}
	vipShell(t, "ip link show kube-ipvs0")
}

// TestVIPCost says what a route costs alone and as one of 10,000, and an address.
func TestVIPCost(t *testing.T) {
	const n = 10_000
	k := vipOpen(t)
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	ops := make([]vip.Op, n)
	for i := range ops {
		a := netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})
		ops[i] = vip.Op{Item: vip.Item{Kind: vip.Route, Prefix: netip.PrefixFrom(a, 32)}}
	}
	const few = 500
	one := ipsetTime(func() {
		for i := range few {
			vipDo(t, k, ops[i])
		}
	}) / few
	many := ipsetTime(func() { vipDo(t, k, ops...) })
	again := ipsetTime(func() { vipDo(t, k, ops...) })
	var there map[vip.Item]struct{}
	var err error
	read := ipsetTime(func() { there, err = k.Read(t.Context()) })
	if err != nil || len(there) != n+1 {
		t.Fatalf("Read: %d items, %v", len(there), err)
	}
	for i := range ops {
		ops[i].Verb = vip.Del
	}
	gone := ipsetTime(func() { vipDo(t, k, ops...) })
	t.Logf("10,000 routes: added %v, again %v, read %v, deleted %v; one alone %v", many, again, read, gone, one)
	if many/n*2 > one {
		t.Errorf("a route of many costs %v, and %v alone", many/n, one)
	}
	for i := range ops {
		ops[i].Verb, ops[i].Item.Kind = vip.Add, vip.Address
	}
	t.Logf("2,000 addresses: %v", ipsetTime(func() { vipDo(t, k, ops[:2000]...) }))
}
