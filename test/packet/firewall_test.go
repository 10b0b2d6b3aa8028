//go:build kernel

package packet

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// A node whose firewall drops all that nobody accepts serves all frontends to all sources, and health-check node ports; its
// own ports stay closed. Only its own connections need a rule of the operator's, as they do to every other host.
func TestFirewallThatDrops(t *testing.T) {
	w := newWorld(t, lab.Config{})
	w.serveOn(t, w.Node, inet.TCP, hostPort, "host")
	p := start(t, setup{detector: clusterCIDR})
	svc := service(50, inet.TCP)
	svc.ExternalLocal, svc.HealthCheckNodePort = true, 31999
	p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
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
			table.run(t, []inet.Protocol{inet.TCP, inet.UDP})
			for _, v6 := range []bool{false, true} {
				for _, from := range []source{fromOutside, fromPod} {
					closed := question{from, inet.TCP, netip.AddrPortFrom(w.Node.Addr(v6), hostPort)}
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
	svc := service(50, inet.TCP)
	drop := fmt.Sprintf("INPUT -p tcp --dport %d -j DROP", svc.Ports[0].NodePort)
	for _, mode := range []string{"divert", "bind"} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before the proxy: %v", mode, before), func(t *testing.T) {
				w.t = t
				if before {
					firewall(t, "-A "+drop)
				}
				p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
				p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
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
		want[question{fromOutside, inet.TCP, w.address(svc, toNodePort, v6)}] = nodePort
		for _, from := range []source{fromOutside, fromPod} {
			want[question{from, inet.TCP, w.address(svc, toClusterIP, v6)}] = "answered"
		}
	}
	w.expect(t, want)
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
