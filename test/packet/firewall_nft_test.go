//go:build kernel && nft

package packet

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"kube-ipvs/ipvs"
	"kube-ipvs/test/lab"
)

// A firewall of nftables that drops everything serves all frontends with the rules that README gives, and keeps its own ports
// closed.
func TestFirewallOfNftables(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile("(?m)^ +nft (insert rule .*?)(  +#.*)?$").FindAllStringSubmatch(string(readme), -1)
	if len(rules) < 4 {
		t.Fatalf("README has the rules %q", rules)
	}
	w := newWorld(t, lab.Config{})
	w.serveOn(t, w.Node, ipvs.TCP, hostPort, "host")
	p := start(t, setup{detector: clusterCIDR})
	svc := service(50, ipvs.TCP)
	p.set(svc, w.slices(svc.Name, ipvs.TCP, []endpoint{ready("pod1", true)})...)
	p.settle()
	script := "add table inet filter\n" +
		"add chain inet filter input { type filter hook input priority 0; policy drop; }\n" +
		"add chain inet filter forward { type filter hook forward priority 0; policy drop; }\n" +
		"add rule inet filter input meta l4proto ipv6-icmp accept\n" + // neighbours must be found
		"add rule inet filter forward ip daddr 10.244.0.0/16 accept\nadd rule inet filter forward ip6 daddr fd00:10:244::/48 accept\n"
	nft := func(script string) {
		t.Helper()
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s%s", err, out, script)
		}
	}
	nft(script)
	t.Cleanup(func() { nft("delete table inet filter\n") })
	ask := func(fate string) {
		t.Helper()
		want := map[question]string{}
		for _, v6 := range []bool{false, true} {
			for _, from := range []source{fromOutside, fromPod, fromFarPod} {
				for _, to := range []frontend{toClusterIP, toNodePort, toExternalIP, toLoadBalancer} {
					want[question{from, ipvs.TCP, w.address(svc, to, v6)}] = fate
				}
			}
			want[question{fromOutside, ipvs.TCP, netip.AddrPortFrom(w.Node.Addr(v6), hostPort)}] = "silence"
		}
		w.expect(t, want)
	}
	ask("silence")
	for _, rule := range rules {
		nft(rule[1] + "\n")
	}
	ask("answered")
}
