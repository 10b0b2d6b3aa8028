//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// mendLimit is within what time everything must be as wanted again after somebody else changed it: much more than it
// takes, since the machine may be busy. What it took is printed.
const mendLimit = 15 * time.Second

// TestOtherHands lets others change what is the proxy's in every way that an operator, a firewall or another agent does,
// and asks until all is well again.
func TestOtherHands(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR, lookInterval: time.Second})
	p.watchRoutes()
	svc := service(1, ipvs.TCP)
	svc.ExternalLocal = true
	p.set(svc, w.slices(svc.Name, ipvs.TCP, []endpoint{ready("pod1", true), ready("far1", false)})...)
	p.settle()
	stands := struct{ state, rules string }{p.state(), p.rules()}

	for _, hand := range []struct{ name, command string }{
		{"the IPVS table is flushed", "ipvsadm -C"},
		{"a virtual server is removed", "ipvsadm -D -t 10.96.1.1:80"},
		{"a real server is removed", "ipvsadm -d -t 10.96.1.1:80 -r $POD1:8080"},
		{"a weight is changed", "ipvsadm -e -t 10.96.1.1:80 -r $POD1:8080 -m -w 0"},
		{"a scheduler is changed", "ipvsadm -E -t 10.96.1.1:80 -s wrr"},
		{"a set is flushed", "ipset flush KIPVS-FRONTENDS"},
		{"a member is removed", "ipset del KIPVS-FRONTENDS 10.96.1.1,tcp:80"},
		{"a stranger's member is added", "ipset add KIPVS-FRONTENDS 10.96.1.77,tcp:80 skbmark 0x8000/0xd000"},
		{"the jumps are removed", "iptables -t mangle -D PREROUTING -j KIPVS-PREROUTING; iptables -t nat -D POSTROUTING -j KIPVS-POSTROUTING"},
		{"the nat table is flushed", "iptables -t nat -F"},
		{"all tables are flushed", "for t in mangle nat filter; do iptables -t $t -F; iptables -t $t -X; ip6tables -t $t -F; ip6tables -t $t -X; done"},
		{"rules are flushed and sets destroyed", "for t in mangle nat filter; do iptables -t $t -F; iptables -t $t -X; done; ipset flush KIPVS-FRONTENDS; ipset destroy KIPVS-FRONTENDS"},
		{"the link is removed", "ip link del kube-ipvs0"},
		{"the link is set down", "ip link set kube-ipvs0 down"},
		{"the divert rule is removed", "ip rule del pref 7598"},
		{"the divert route is removed", "ip route flush table 7598"},
		{"the route of the service range is removed", "ip route del 10.96.0.0/12"},
		{"conntrack is switched off in IPVS", "sysctl -qw net.ipv4.vs.conntrack=0"},
		{"forwarding is switched off", "sysctl -qw net.ipv4.ip_forward=0"},
	} {
		t.Run(hand.name, func(t *testing.T) {
			command := strings.ReplaceAll(hand.command, "$POD1", w.Pod("pod1").Addr(false).String())
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
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

// answers says whether a cluster IP is served from a pod and from outside.
func (w *world) answers(addr string) bool {
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
	for _, from := range []source{fromPod, fromOutside, fromNode} {
		if w.Ask(context.Background(), w.host(from), ipvs.TCP, at, lab.Wait(time.Second)).Err != nil {
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
		for _, set := range plan.SetsOf(family).All() {
			members, err := p.cfg.Sets.Read(ctx, set)
			fmt.Fprintln(&out, ipset.Save(set, members), err)
		}
	}
	items, err := p.vips.Read(ctx)
	fmt.Fprintln(&out, vip.Text(items), err)
	values, err := p.cfg.Sysctl.Read(ctx, []string{"net/ipv4/vs/conntrack", "net/ipv4/ip_forward"})
	fmt.Fprintln(&out, values, err)
	return out.String()
}

// rules is what stands of the proxy's rules, in order.
func (p *proxy) rules() string {
	out, err := exec.Command("sh", "-c", "iptables-save | grep KIPVS; ip6tables-save | grep KIPVS").CombinedOutput()
	return regexp.MustCompile(` \[[0-9:]*\]`).ReplaceAllString(string(out), "") + fmt.Sprint(err)
}

// watchRoutes wires the watch of the link, its routes and rules as the program does.
func (p *proxy) watchRoutes() {
	ctx, stop := context.WithCancel(context.Background())
	p.t.Cleanup(stop)
	go func() {
		err := p.vips.Watch(ctx, func() { p.queue.Note(loop.Routes) })
		if ctx.Err() == nil {
			os.Stderr.WriteString("watch: " + err.Error() + "\n")
		}
	}()
}
