//go:build kernel

package packet

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A node whose firewall drops all that nobody accepts serves all frontends to all sources, and health-check node ports; its
// own ports stay closed. Only its own connections need a rule of the operator's, as they do to every other host.
func TestFirewallThatDrops(t *testing.T) {
	w := newWorld(t, lab.Config{})
	w.serveOn(t, w.Node, ipvs.TCP, hostPort, "host")
	p := start(t, setup{detector: clusterCIDR})
	svc := service(50, ipvs.TCP)
	svc.ExternalLocal, svc.HealthCheckNodePort = true, 31999
	p.set(svc, w.slices(svc.Name, ipvs.TCP, []endpoint{ready("pod1", true)})...)
	p.settle()
	dropAll(t)
	for _, tt := range []struct {
		name    string
		sources []source
	}{
		{"nothing is accepted", []source{fromPod, fromEndpoint, fromFarPod, fromOutside}},
		{"what belongs to connections is accepted", sources},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.sources) == len(sources) {
				firewall(t, "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
				t.Cleanup(func() { firewall(t, "-D INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT") })
			}
			table := newTable(w, p, rule{inside: byCIDR})
			table.situations, table.sources = situations[:1], tt.sources
			table.run(t, []ipvs.Protocol{ipvs.TCP, ipvs.UDP})
			for _, v6 := range []bool{false, true} {
				for _, from := range []source{fromOutside, fromPod} {
					closed := question{from, ipvs.TCP, netip.AddrPortFrom(w.Node.Addr(v6), hostPort)}
					if a := w.ask(closed, 300*time.Millisecond); fate(a) != "silence" {
						t.Errorf("%v: %v, want silence", closed, a)
					}
				}
				if a, err := w.getHealth(w.Client, netip.AddrPortFrom(w.Node.Addr(v6), 31999), "/"); a.Code != 200 || err != nil {
					t.Errorf("health-check node port: %+v, %v", a, err)
				}
			}
		})
	}
}

// What an administrator drops stays dropped, also at frontends: a rule that was there before the proxy, and one that is put in
// first later. Nobody else is concerned.
func TestFirewallsOwnRules(t *testing.T) {
	w := newWorld(t, lab.Config{})
	svc := service(50, ipvs.TCP)
	drop := fmt.Sprintf("INPUT -p tcp --dport %d -j DROP", svc.Ports[0].NodePort)
	for _, mode := range []string{"divert", "bind"} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before the proxy: %v", mode, before), func(t *testing.T) {
				w.t = t
				if before {
					firewall(t, "-A "+drop)
				}
				p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
				p.set(svc, w.slices(svc.Name, ipvs.TCP, []endpoint{ready("pod1", true)})...)
				p.settle()
				if !before {
					firewall(t, "-I "+drop)
				}
				dropAll(t)
				w.expectAt(t, svc, "silence")
				firewall(t, "-D "+drop)
				w.expectAt(t, svc, "answered")
			})
		}
	}
}

// expectAt asks a Service's node ports and cluster IPs; the first may be closed.
func (w *world) expectAt(t *testing.T, svc plan.Service, nodePort string) {
	t.Helper()
	want := map[question]string{}
	for _, v6 := range []bool{false, true} {
		want[question{fromOutside, ipvs.TCP, w.address(svc, toNodePort, v6)}] = nodePort
		for _, from := range []source{fromOutside, fromPod} {
			want[question{from, ipvs.TCP, w.address(svc, toClusterIP, v6)}] = "answered"
		}
	}
	w.expect(t, want)
}

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

// dropAll makes a firewall that drops, until the test ends. Neighbours must still be found.
func dropAll(t *testing.T) {
	t.Helper()
	firewall(t, "-P INPUT DROP", "-P FORWARD DROP")
	run(t, "ip6tables", "-A INPUT -p ipv6-icmp -j ACCEPT")
	t.Cleanup(func() {
		firewall(t, "-P INPUT ACCEPT", "-P FORWARD ACCEPT")
		run(t, "ip6tables", "-D INPUT -p ipv6-icmp -j ACCEPT")
	})
}

// firewall changes the filter tables of both families.
func firewall(t *testing.T, changes ...string) {
	t.Helper()
	for _, change := range changes {
		run(t, "iptables", change)
		run(t, "ip6tables", change)
	}
}

// run runs a program with arguments.
func run(t *testing.T, program, arguments string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", fmt.Sprint(program, " -w ", arguments)).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", program, arguments, err, out)
	}
}
