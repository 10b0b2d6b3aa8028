//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// mendLimit is within what time everything must be as wanted again after somebody else changed it: much more than it
// takes, since the machine may be busy. What it took is printed.
const mendLimit = 3 * time.Minute

// A hand is something that somebody else does to what is the proxy's.
type hand struct{ name, command string }

// hands are all the ways in which an operator, a firewall or another agent does it.
var hands = []hand{
	{"the IPVS table is flushed", "ipvsadm -C"},
	{"a virtual server is removed", "ipvsadm -D -t 10.96.1.1:80"},
	{"a virtual server of IPv6 is removed", "ipvsadm -D -t [fd00:10:96::101]:80"},
	{"a real server is removed", "ipvsadm -d -t 10.96.1.1:80 -r $POD1:8080"},
	{"a weight is changed", "ipvsadm -e -t 10.96.1.1:80 -r $POD1:8080 -m -w 0"},
	{"a scheduler is changed", "ipvsadm -E -t 10.96.1.1:80 -s wrr"},
	{"a virtual server is added in the range of cluster IPs", "ipvsadm -A -t 10.96.1.99:80 -s rr"},
	{"a set is flushed", "ipset flush KIPVS-FRONTENDS"},
	{"a member is removed", "ipset del KIPVS-FRONTENDS 10.96.1.1,tcp:80"},
	{"a stranger's member is added", "ipset add KIPVS-FRONTENDS 10.96.1.77,tcp:80 skbmark 0x4010/0x4010"},
	{"all sets are flushed", "ipset flush"},
	{"the jumps are removed", "iptables -t mangle -D PREROUTING -m conntrack ! --ctstate RELATED,ESTABLISHED -j KIPVS-PREROUTING; iptables -t nat -D POSTROUTING -j KIPVS-POSTROUTING"},
	{"a chain is flushed", "iptables -t mangle -F KIPVS-PREROUTING"},
	{"the nat table is flushed", "iptables -t nat -F"},
	{"all tables are flushed", "for t in raw mangle nat filter; do iptables -t $t -F; iptables -t $t -X; ip6tables -t $t -F; ip6tables -t $t -X; done"},
	{"rules are flushed and a set destroyed", "for t in raw mangle nat filter; do iptables -t $t -F; iptables -t $t -X; done; ipset flush KIPVS-FRONTENDS; ipset destroy KIPVS-FRONTENDS"},
	{"rules are flushed and all sets destroyed", noRules + "ipset destroy"},
	{"everything is removed", "ipvsadm -C; " + noRules + "ipset destroy; ip link del kube-ipvs0; ip rule flush; ip rule add pref 32766 lookup main"},
	{"the link is removed", "ip link del kube-ipvs0"},
	{"the link is set down", "ip link set kube-ipvs0 down"},
	{"the link is renamed", `printf 'link set kube-ipvs0 down\nlink set kube-ipvs0 name other0\nlink del other0\n' | ip -batch -`},
	{"the divert rule is removed", "ip rule del pref 92; ip -6 rule del pref 92"},
	{"the rule of the node's own packets is removed", "ip rule del pref 90; ip -6 rule del pref 90"},
	{"the rule for checks of the way back is removed", "ip rule del pref 91; ip rule del pref 93"},
	{"the way of what is rejected is removed", "ip route del 254.255.255.254 table local; ip -6 route del 400::1 table local"},
	{"the route of aliases is removed", "ip route del local 255.0.0.0/8 table local; ip -6 route del local 100::/8 table local"},
	{"the rule of last resort is removed", "ip rule del pref 37599"},
	{"the routes of diverted addresses are removed", "ip route flush table 7598"},
	{"the route of the service range is removed", "ip route del local 10.96.0.0/12 table local; ip -6 route del local fd00:10:96::/112 table local"},
	{"conntrack is switched off in IPVS", "sysctl -qw net.ipv4.vs.conntrack=0"},
	{"forwarding is switched off", "sysctl -qw net.ipv4.ip_forward=0"},
	{"an interface comes, has addresses and goes", "ip link add other0 type dummy; ip addr add 192.0.2.9/24 dev other0; ip link set other0 up; ip link del other0"},
}

// noRules removes all rules and chains so fast that nobody puts them back meanwhile.
const noRules = `for i in iptables ip6tables; do printf '*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n*filter\nCOMMIT\n' | $i-restore; done; `

// bindHands are those that need bound addresses.
var bindHands = []hand{
	{"an address is removed", "ip addr del 10.96.1.1/32 dev kube-ipvs0"},
	{"an address of IPv6 is removed", "ip addr del fd00:10:96::101/128 dev kube-ipvs0"},
	{"all addresses are removed", "ip addr flush dev kube-ipvs0"},
	{"the link with its addresses is removed", "ip link del kube-ipvs0"},
	{"a stranger's address is added", "ip addr add 10.96.1.78/32 dev kube-ipvs0"},
}

// TestOtherHands lets others change what is the proxy's in every way, and asks until all is well again.
func TestOtherHands(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, lab.Config{})
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR, lookInterval: loop.LookInterval})
			svc := service(1, inet.TCP)
			svc.ExternalLocal = true
			p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true), ready("far1", false)})...)
			p.settle()
			if mode == "bind" {
				w.mends(t, p, svc, bindHands)
				return
			}
			w.mends(t, p, svc, hands)
		})
	}
}

// TestOtherHandsAmongMany touches one of 500 Services, of which the first is asked, or all.
func TestOtherHandsAmongMany(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR, lookInterval: loop.LookInterval})
	endpoints := []endpoint{ready("pod1", true), ready("far1", false)}
	for n := range 500 {
		svc := service(n, inet.TCP)
		svc.ExternalIPs, svc.LoadBalancerIPs, svc.Ports[0].NodePort = nil, nil, 0
		p.set(svc, w.slices(svc.Name, inet.TCP, endpoints)...)
	}
	p.settle()
	w.mends(t, p, service(1, inet.TCP), []hand{
		{"a virtual server is removed", "ipvsadm -D -t 10.96.2.200:80"},
		{"a virtual server of IPv6 is removed", "ipvsadm -D -t [fd00:10:96::2c8]:80"},
		{"a real server is removed", "ipvsadm -d -t 10.96.2.200:80 -r $POD1:8080"},
		{"a weight is changed", "ipvsadm -e -t 10.96.2.200:80 -r $POD1:8080 -m -w 0"},
		{"the IPVS table is flushed", "ipvsadm -C"},
		{"all sets are flushed", "ipset flush"},
		{"a member is removed", "ipset del KIPVS-FRONTENDS 10.96.2.200,tcp:80"},
	})
}

// mends carries out one hand after the other, and waits until all is as before and the Service answers.
func (w *world) mends(t *testing.T, p *proxy, svc plan.Service, hands []hand) {
	stands := struct{ state, rules string }{p.state(), p.rules()}
	for _, hand := range hands {
		t.Run(hand.name, func(t *testing.T) {
			command := strings.ReplaceAll(hand.command, "$POD1", w.Pod("pod1").Addr(false).String())
			act(t, command)
			begin := time.Now()
			for p.state() != stands.state || !w.answers(svc.ClusterIPs[0].String()) || p.rules() != stands.rules {
				if time.Since(begin) > mendLimit {
					t.Fatalf("not mended within %v (-want +got):\n%s", mendLimit, cmp.Diff(stands.state+stands.rules, p.state()+p.rules()))
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Logf("mended after %v", time.Since(begin).Round(10*time.Millisecond))
		})
	}
}

// act runs a command. One of several steps may find what the first did mended before the last; then it is tried again.
func act(t *testing.T, command string) {
	t.Helper()
	const tries = 20
	for try := 1; ; try++ {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err == nil {
			return
		}
		if try == tries {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
}

// answers says whether a cluster IP is served from a pod and from outside.
func (w *world) answers(addr string) bool {
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
	for _, from := range []source{fromPod, fromOutside, fromNode} {
		if w.Ask(context.Background(), w.host(from), inet.TCP, at, lab.Wait(time.Second)).Err != nil {
			return false
		}
	}
	return true
}

// state is all of the kernel that the proxy keeps and that can be read without a process.
func (p *proxy) state() string {
	ctx := context.Background()
	var out strings.Builder
	table, err := p.cfg.IPVS.Read(ctx)
	for _, entry := range table {
		for at, real := range entry.Reals {
			entry.Reals[at] = ipvs.RealState{Real: real.Real} // connections come and go
		}
	}
	fmt.Fprintln(&out, table, err)
	for _, family := range p.cfg.Families {
		for _, set := range ipvsmode.SetsOf(family).All() {
			members, err := p.cfg.Sets.Read(ctx, set)
			fmt.Fprintln(&out, ipset.Save(set, members), err)
		}
	}
	items, err := p.kernel.Steering.Read(ctx)
	fmt.Fprintln(&out, steering.Text(items), err)
	values, err := p.cfg.Sysctl.Read(ctx, []string{"net/ipv4/vs/conntrack", "net/ipv4/ip_forward"})
	fmt.Fprintln(&out, values, err)
	return out.String()
}

// rules is what stands of the proxy's rules, in order.
func (p *proxy) rules() string {
	out, err := exec.Command("sh", "-c", "iptables-save | grep KIPVS; ip6tables-save | grep KIPVS").CombinedOutput()
	return regexp.MustCompile(` \[[0-9:]*\]`).ReplaceAllString(string(out), "") + fmt.Sprint(err)
}
