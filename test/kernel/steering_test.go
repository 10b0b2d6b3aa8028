//go:build kernel

package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/ipvs/steering"
)

func steerOpen(t testing.TB) *steering.Conn {
	t.Helper()
	ipsetNamespace(t)
	ipsetRun(t, "ip", "link", "set", "lo", "up")
	k, err := steering.Open()
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

// steerOpenNode connects to the kernel of a node that has the addresses of steerSource, and another of each family.
func steerOpenNode(t testing.TB) *steering.Conn {
	t.Helper()
	k := steerOpen(t)
	for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"} {
		steerShell(t, "ip address add "+a+" dev lo")
	}
	return k
}

// steerShell runs a line of the shell in the test's network namespace.
func steerShell(t testing.TB, line string) string {
	t.Helper()
	return ipsetRun(t, "sh", "-ec", line)
}

func TestSteeringKernel(t *testing.T) {
	steerConforms(t, func(t *testing.T) steerHost {
		return steerHost{
			Kernel: steerOpenNode(t),
			stranger: func(i steering.Item) {
				family := "-4"
				if i.Prefix.Addr().Is6() {
					family = "-6"
				}
				steerShell(t, "ip "+family+" route add local "+i.Prefix.String()+" dev lo table local proto 199")
			},
			noIPv6: func() {
				steerShell(t, "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
			},
		}
	})
}

// TestSteeringCommands states in the words of ip(8) what the items are.
func TestSteeringCommands(t *testing.T) {
	k := steerOpenNode(t)
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	const rules = "90: from all fwmark 0x10/0x10 iif lo lookup 7598 proto 175 91: from all fwmark 0x1000/0x1000 iif lo goto 93 proto 175 " +
		"92: from all fwmark 0x1000/0x1000 lookup 7598 proto 175 93: from all lookup 7597 proto 175 37599: from all lookup 7599 proto 175"
	tests := []struct{ command, want string }{
		{"ip -4 rule show | grep 'proto 175'", rules},
		{"ip -6 rule show | grep 'proto 175'", rules},
		{"(ip -6 route show table 7597; ip -4 route show table 7597) 2>&1 || true", "Error: ipv4: FIB table does not exist. Dump terminated"},
		{"ip -4 route show table 7598", "local 203.0.113.7 dev kube-ipvs0 proto 175 scope host"},
		{"ip -6 route show table 7598", "local 2001:db8::7 dev kube-ipvs0 proto 175 metric 1024 pref medium"},
		{"ip -4 route show table local proto 175", "local 10.96.0.0/12 dev kube-ipvs0 scope host src 192.0.2.1 local 10.200.0.1 dev kube-ipvs0 scope host src 192.0.2.1 " +
			"255.255.255.254 dev kube-ipvs0 scope link"},
		{"ip -6 route show table local proto 175", "1ff::fffe dev kube-ipvs0 metric 1024 pref medium local fd00:96::/108 dev kube-ipvs0 src 2001:db8::1 metric 1024 pref medium"},
		{"ip -4 route show table main; ip -6 route show table main proto 175", ""},
		{"ip -4 route show table 7599", "203.0.113.7 dev kube-ipvs0 proto 175 scope link"},
		{"ip -6 route show table 7599", "2001:db8::7 dev kube-ipvs0 proto 175 metric 1024 pref medium"},
		{"ip -brief address show dev kube-ipvs0", "kube-ipvs0 UNKNOWN 10.96.0.10/32 fd00:96::10/128"},
		{"ip -details link show kube-ipvs0 | grep -o 'BROADCAST,NOARP,UP,LOWER_UP\\|addrgenmode none\\|dummy'", "BROADCAST,NOARP,UP,LOWER_UP dummy addrgenmode none"},
	}
	for _, tt := range tests {
		if got := strings.Join(strings.Fields(steerShell(t, tt.command)), " "); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.command, got, tt.want)
		}
	}
}

// TestSteeringHands lets other hands change what is ours, and states what is read then and what is there after it was made
// again and what is too much was removed.
func TestSteeringHands(t *testing.T) {
	link, refuse, local := steering.Item{Kind: steering.Link}, steerItem(steering.Refuse, "255.255.255.254/32"), steerItem(steering.Local, "10.96.0.0/12")
	divert, last := steerItem(steering.Divert, "203.0.113.7/32"), steerItem(steering.LastRoute, "203.0.113.7/32")
	want := slices.Concat([]steering.Item{link}, steerRules("0.0.0.0/0"), []steering.Item{refuse, local, divert, last})
	rule := func(r steering.Rule) steering.Item {
		return steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: r}
	}
	ofPriority := func(n uint32) steering.Item {
		return want[slices.IndexFunc(want, func(i steering.Item) bool { return i.Rule.Priority == n })]
	}
	nothing := []steering.Item(nil)
	// Where a stranger's rule is in front of ours, none is where it should be.
	ours := steerRules("0.0.0.0/0")[:4]
	earlier := func(n uint32) (out []steering.Item) {
		for _, i := range ours {
			if i.Rule.Priority -= n; i.Rule.Goto != 0 {
				i.Rule.Goto -= n
			}
			out = append(out, i)
		}
		return out
	}
	moved, movedMore := earlier(5), earlier(4)
	tests := []struct {
		name       string
		hand       string
		less, more []steering.Item // what is not read of want, and what is beside it
	}{
		{"nothing", "true", nothing, nothing},
		{"the link is down", "ip link set kube-ipvs0 down", []steering.Item{link, refuse, last}, nothing},
		{"the link has ARP", "ip link set kube-ipvs0 arp on", []steering.Item{link}, nothing},
		{"the link makes addresses", "ip link set kube-ipvs0 addrgenmode eui64", []steering.Item{link}, nothing},
		{"a diverted address is gone", "ip route flush table 7598", []steering.Item{divert}, nothing},
		{"a diverted address leads elsewhere", "ip route replace local 203.0.113.7 dev lo table 7598", []steering.Item{divert}, nothing},
		{"a rule is gone", "ip rule del pref 92", []steering.Item{ofPriority(92)}, nothing},
		{"the rule that another goes to is gone", "ip rule del pref 93", []steering.Item{ofPriority(93)}, nothing},
		{"another mark is diverted", "ip rule add pref 92 fwmark 0x4000/0x4000 lookup 7598", nothing, []steering.Item{rule(steering.Rule{Priority: 92, Mark: 0x4000, Mask: 0x4000, Table: steering.DivertTable})}},
		{"a rule of an older version", "ip rule add pref 7598 fwmark 0x8000/0x8000 lookup 7598", nothing, []steering.Item{rule(steering.Rule{Priority: 7598, Mark: 0x8000, Mask: 0x8000, Table: steering.DivertTable})}},
		{"the divert rule of an older version", "ip rule add pref 6 fwmark 0x1000/0x1000 lookup 7598 proto 175", nothing, []steering.Item{rule(steering.Rule{Priority: 6, Mark: 0x1000, Mask: 0x1000, Table: steering.DivertTable})}},
		{"a rule with another mask", "ip rule add pref 92 fwmark 0x1000/0xffff lookup 7598", nothing, []steering.Item{rule(steering.Rule{Priority: 92, Mark: 0x1000, Mask: 0xffff, Table: steering.DivertTable})}},
		{"a rule of ours that goes elsewhere", "ip rule add pref 5 goto 6 proto 175", nothing, []steering.Item{rule(steering.Rule{Priority: 5, Goto: 6})}},
		{"the last resort comes first", "ip rule del pref 37599; ip rule add pref 5 lookup 7599", []steering.Item{ofPriority(37599)}, []steering.Item{rule(steering.Rule{Priority: 5, Table: steering.LastResortTable})}},
		{"a local prefix leads elsewhere", "ip route change local 10.96.0.0/12 dev lo table local proto 175", []steering.Item{local}, nothing},
		{"a route has another scope", "ip route change 203.0.113.7 dev kube-ipvs0 scope global table 7599", []steering.Item{last}, nothing},
		{"one route too many", "ip route add local 10.7.0.0/16 dev kube-ipvs0 table local src 192.0.2.1 proto 175", nothing, []steering.Item{steerItem(steering.Local, "10.7.0.0/16")}},
		{"a stranger's route over the link", "ip route add 10.7.0.0/16 dev kube-ipvs0", nothing, nothing},
		{"a stranger's rule without priority", "ip rule add lookup 101", ours, moved},
		{"a stranger's rule for what is not marked", "ip rule add not fwmark 0x10 lookup 101", ours, moved},
		{"a stranger's rule among ours", "ip rule add pref 93 lookup 101", ours, movedMore},
		{"a stranger's rule behind ours", "ip rule add pref 94 lookup 101", nothing, nothing},
		{"a stranger's rule that nothing comes before", "ip rule add pref 3 lookup 101", nothing, nothing},
		{"an address", "ip address add 10.9.0.1/24 dev kube-ipvs0", nothing, []steering.Item{{Kind: steering.Address, Prefix: netip.MustParsePrefix("10.9.0.1/24")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := steerOpenNode(t)
			steerDo(t, k, steerOps(steering.Add, want...)...)
			steerShell(t, tt.hand)
			read := slices.DeleteFunc(slices.Clone(want), func(i steering.Item) bool { return slices.Contains(tt.less, i) })
			steerHas(t, k, append(read, tt.more...)...)
			steerReconcile(t, k, want)
			steerHas(t, k, want...)
		})
	}
}

// TestSteeringHandsOnSources lets other hands change sources, and remove the address that is one.
func TestSteeringHandsOnSources(t *testing.T) {
	local := steerItem(steering.Local, "10.96.0.0/12")
	want := []steering.Item{{Kind: steering.Link}, local}
	for _, tt := range []struct {
		name, hand string
		there      bool
		source     netip.Addr
	}{
		{"another source", "ip route change local 10.96.0.0/12 dev kube-ipvs0 table local proto 175 src 192.0.2.2", true, netip.MustParseAddr("192.0.2.2")},
		{"no source", "ip route change local 10.96.0.0/12 dev kube-ipvs0 table local proto 175", true, netip.Addr{}},
		// The kernel removes routes with an address as source in the main table only (fib_sync_down_addr).
		{"the source is no address of the node any more", "ip address del 192.0.2.1/32 dev lo", true, netip.MustParseAddr("192.0.2.1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := steerOpenNode(t)
			steerDo(t, k, steerOps(steering.Add, want...)...)
			steerShell(t, tt.hand)
			items, err := k.Read(t.Context())
			if source, ok := items[local]; err != nil || ok != tt.there || source != tt.source {
				t.Errorf("there: %t, from %v (%v), want %t, from %v", ok, source, err, tt.there, tt.source)
			}
			steerShell(t, "ip address replace 192.0.2.1/32 dev lo")
			steerReconcile(t, k, want)
			steerHas(t, k, want...)
		})
	}
}

// TestSteeringStrangersInFront lets strangers' rules come before ours and go again, one after the other, and states where ours stand
// when that is mended.
func TestSteeringStrangersInFront(t *testing.T) {
	want := slices.Concat([]steering.Item{{Kind: steering.Link}}, steerRules("0.0.0.0/0"), steerRules("::/0"), []steering.Item{steerItem(steering.Divert, "203.0.113.7/32")})
	k := steerOpenNode(t)
	steerDo(t, k, steerOps(steering.Add, want...)...)
	steerShell(t, "ip route add blackhole default table 101")
	tests := []struct{ name, hand, priorities string }{
		{"none", "true", "90 91 92 93"},
		{"one without priority", "ip rule add not fwmark 51820 lookup 101", "85 86 87 88"},
		{"another", "ip rule add lookup main suppress_prefixlength 0", "80 81 82 83"},
		{"three at once", "for i in 1 2 3; do ip rule add lookup 101; done", "73 74 75 76"},
		{"one with a mark", "ip rule add fwmark 1 lookup 101", "68 69 70 71"},
		{"that goes", "ip rule del fwmark 1", "73 74 75 76"},
		{"one between", "ip rule add pref 80 lookup 101", "73 74 75 76"},
		{"one far in front", "ip rule add pref 9 lookup 101", "5 6 7 8"},
		{"no more than room for one", "ip rule add lookup 101", "3 4 5 6"},
		{"all go", "while ip -4 rule del lookup 101; do :; done 2>&1; ip rule del lookup main suppress_prefixlength 0", "90 91 92 93"},
		{"one among ours", "ip rule add pref 92 lookup 101", "86 87 88 89"},
		{"one behind ours", "ip rule del lookup 101; ip rule add pref 94 lookup 101", "90 91 92 93"},
	}
	priorities := func(family string) string {
		return strings.Join(strings.Fields(steerShell(t, "ip "+family+" rule show | grep 'proto 175' | cut -d: -f1")), " ")
	}
	for _, tt := range tests {
		steerShell(t, tt.hand)
		steerReconcile(t, k, want)
		steerHas(t, k, want...)
		if got := priorities("-4"); got != tt.priorities+" 37599" {
			t.Errorf("%s: ours at %s, want %s\n%s", tt.name, got, tt.priorities, steerShell(t, "ip rule show"))
		}
		if got := priorities("-6"); got != "90 91 92 93 37599" {
			t.Errorf("%s: those of IPv6 at %s", tt.name, got)
		}
		if got := steerShell(t, "ip route get 203.0.113.7 mark 0x10"); !strings.HasPrefix(got, "local 203.0.113.7 dev ") {
			t.Errorf("%s: packets of the node go %s", tt.name, got)
		}
		other, err := steering.Open() // the next start
		if err != nil {
			t.Fatal(err)
		}
		steerHas(t, other, want...)
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	steerShell(t, "ip rule add lookup 101")
	there, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range there {
		if i.Kind == steering.Policy {
			steerDo(t, k, steering.Op{Verb: steering.Del, Item: i})
		}
	}
	if got := steerShell(t, "ip rule show | grep 'proto 175' || true"); got != "" {
		t.Errorf("after removal:\n%s", got)
	}
}

// steerReconcile adds what is wanted and not there, and removes what is there and not wanted.
func steerReconcile(t *testing.T, k steering.Kernel, want []steering.Item) {
	t.Helper()
	there, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ops []steering.Op
	for _, op := range steerOps(steering.Add, want...) {
		i := op.Item
		if source, ok := there[i]; !ok || source != op.Source {
			ops = append(ops, op)
		}
		delete(there, i)
	}
	for i := range there {
		ops = append(ops, steering.Op{Verb: steering.Del, Item: i})
	}
	steerDo(t, k, ops...)
}

// TestSteeringStrangersStay removes all that is ours and sees that what is not is still there.
func TestSteeringStrangersStay(t *testing.T) {
	k := steerOpenNode(t)
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	steerShell(t, "ip route add 10.7.0.0/16 dev lo proto 199; ip route append local 10.96.0.0/12 dev lo table local proto 199; ip rule add pref 6 fwmark 1 lookup 99; ip rule add pref 6 goto 7")
	steerDo(t, k, steerOps(steering.Del, steerAll()[1:]...)...)
	got := strings.Join(strings.Fields(steerShell(t, "ip -4 route show proto 199; ip -4 route show table local proto 199; ip -4 rule show pref 6; ip -6 rule show | wc -l")), " ")
	const want = "10.7.0.0/16 dev lo scope link local 10.96.0.0/12 dev lo scope host 6: from all fwmark 0x1 lookup 99 6: from all goto 7 [unresolved] 2"
	if got != want {
		t.Errorf("after removal:\n got %q\nwant %q", got, want)
	}
	steerShell(t, "ip link del kube-ipvs0; ip link add kube-ipvs0 type veth peer name other")
	for _, verb := range []steering.Verb{steering.Add, steering.Del} {
		if err := errors.Join(k.Do(t.Context(), []steering.Op{{Verb: verb, Item: steering.Item{Kind: steering.Link}}})...); err == nil {
			t.Errorf("verb %d of a link that is a veth: success", verb)
		}
	}
	steerShell(t, "ip link show kube-ipvs0")
}

// TestSteeringMany adds, reads and deletes 10,000 routes, then 2,000 addresses.
func TestSteeringMany(t *testing.T) {
	k := steerOpenNode(t)
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	for kind, n := range map[steering.Kind]int{steering.Local: 10_000, steering.Address: 2_000} {
		ops := steerAdd(kind, n)
		holds := func(want int) {
			t.Helper()
			if there, err := k.Read(t.Context()); err != nil || len(there) != want+1 { // with the link
				t.Fatalf("Read: %d items, %v; want %d", len(there), err, want+1)
			}
		}
		steerDo(t, k, ops...)
		holds(n)
		steerDo(t, k, ops...) // again
		holds(n)
		for i := range ops {
			ops[i].Verb = steering.Del
		}
		steerDo(t, k, ops...)
		holds(0)
	}
}

// steerAdd returns what adds so many routes or addresses.
func steerAdd(kind steering.Kind, n int) []steering.Op {
	ops := make([]steering.Op, n)
	for i := range ops {
		a := netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})
		ops[i] = steering.Op{Item: steering.Item{Kind: kind, Prefix: netip.PrefixFrom(a, 32)}}
	}
	return ops
}
