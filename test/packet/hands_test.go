//go:build kernel

package packet

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/test/lab"
)

// mendLimit is within what time everything must be as wanted again after somebody else changed it.
const mendLimit = 5 * time.Second

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
	stands := p.fingerprint()

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
			for p.fingerprint() != stands || !w.answers(svc.ClusterIPs[0].String()) {
				if time.Since(begin) > mendLimit {
					t.Fatalf("not mended within %v: want\n%s\ngot\n%s", mendLimit, stands, p.fingerprint())
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

// fingerprint is all that a node shows of the proxy: what an operator would look at.
func (p *proxy) fingerprint() string {
	var out strings.Builder
	for _, command := range []string{
		"ipvsadm -Sn", "ipset save | grep KIPVS | sed 's/hashsize [0-9]*//; s/bucketsize.*//' | sort",
		"iptables-save | grep -e '-j KIPVS' -e '-A KIPVS' | sort", "ip6tables-save | grep -e '-j KIPVS' -e '-A KIPVS' | sort",
		"ip rule", "ip -6 rule", "ip route show table 7598", "ip route | grep kube-ipvs0", "ip -6 route | grep kube-ipvs0",
		"ip -o link show kube-ipvs0 | grep -o '<.*>'", "sysctl net.ipv4.vs.conntrack net.ipv4.ip_forward",
	} {
		text, _ := exec.Command("sh", "-c", command).CombinedOutput() // what is missing is in the text
		out.Write(text)
	}
	return out.String()
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
