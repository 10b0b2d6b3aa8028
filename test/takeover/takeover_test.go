//go:build kernel && compare

package takeover

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kube-ipvs/test/kubeproxy"
)

// kubelets are chains of kubelet.
const kubelets = `*nat
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A INPUT -j KUBE-FIREWALL
COMMIT
`

// portmaps is a rule of CNI's portmap plugin that leads to a chain of kube-proxy's, which its nftables mode does not have.
const portmaps = `*nat
:CNI-HOSTPORT-SETMARK - [0:0]
-A CNI-HOSTPORT-SETMARK -s 10.244.0.0/16 -j KUBE-MARK-MASQ
COMMIT
`

// TestForward takes the node over from each mode of kube-proxy.
func TestForward(t *testing.T) {
	for _, mode := range modes {
		for _, both := range []bool{false, true} {
			t.Run(mode+map[bool]string{false: "/kube-proxy ends first", true: "/both run for a while"}[both], func(t *testing.T) {
				w := newWorld(t)
				w.ours.Env = []string{w.path(lateIPv6("ip6tables-legacy-restore"), lateIPv6("ip6tables-nft-restore"))}
				w.startKubeProxy(mode)
				rules := kubelets
				if mode != kubeproxy.NFTables {
					rules += portmaps
				}
				w.restore(rules)
				w.addStrangers()
				s := w.talk()
				time.Sleep(time.Second)
				if both {
					w.startOurs()
					w.says("kube-proxy runs on this node in mode " + mode)
					time.Sleep(time.Second)
				}
				w.stopKubeProxy()
				if !both {
					time.Sleep(time.Second)
					w.startOurs()
				}
				w.healthy()
				w.says("Took this node over from kube-proxy")
				time.Sleep(time.Second)
				s.judge(t, mode)
				w.hasNoKubeProxy(rules)
				w.hasStrangers()
				w.runPage()
			})
		}
	}
}

// TestBack hands the node back to each mode of kube-proxy.
func TestBack(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t)
			w.startOurs()
			w.healthy()
			w.addStrangers()
			s := w.talk()
			time.Sleep(time.Second)
			ended := make(chan error)
			var said []byte
			go func() {
				var err error
				said, err = exec.Command(w.ours.Path, "hand-back", mode, "--wait="+(2*patience).String()).CombinedOutput()
				ended <- err
			}()
			time.Sleep(time.Second) // it waits
			w.stopOurs()
			time.Sleep(time.Second)
			w.startKubeProxy(mode, w.path(noModules, lateIPv6("ip6tables-restore")))
			if mode == kubeproxy.IPVS {
				if err := <-ended; err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
				ended = nil
			}
			time.Sleep(3 * time.Second)
			s.judge(t, mode)
			if ended != nil { // IPVS has no connections any more
				if err := <-ended; err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
			}
			t.Logf("%s", said)
			w.hasStrangers()
			w.hasNothingOfOurs(mode)
		})
	}
}

// judge ends the clients, and fails the test if any of them noticed anything. A client with affinity may get another endpoint once,
// with its next connection, where one of both proxies does not keep affinity in IPVS, or sees the node come from another address: in
// kube-proxy's ipvs mode it asks an address that is bound there from that address.
func (s *talks) judge(t *testing.T, mode string) {
	t.Helper()
	counts := s.end()
	var machine count // what went wrong past all proxies
	for q, c := range counts {
		if q.to == control {
			machine.add(*c)
		}
	}
	for q, c := range counts {
		if c.moved > 1 || c.moved == 1 && mode == kubeproxy.IPVS && (q.from != "node" || q.to == nodePort) {
			t.Errorf("%v: the client moved %d times", q, c.moved)
		}
	}
	text, sum := report(counts)
	t.Logf("\n%s", text)
	if sum.passed > 0 || sum.denied == 0 {
		t.Errorf("of %d connections that source ranges do not allow, %d passed", sum.denied, sum.passed)
	}
	if sum.broken > 0 || sum.failed > 0 && machine.failed == 0 || sum.late > 0 && machine.late == 0 {
		t.Errorf("%d connections broken, %d new ones failed, %d sent something again", sum.broken, sum.failed, sum.late)
		t.Log(s.w.ours.LastWords())
	}
}

// hasNoKubeProxy fails the test if anything of kube-proxy's is left but what others need, or something of others is gone.
func (w *world) hasNoKubeProxy(others string) {
	w.t.Helper()
	needed := strings.Contains(others, "KUBE-MARK-MASQ")
	for _, family := range []string{"iptables", "ip6tables"} {
		for line := range strings.Lines(w.shell(family + "-save")) {
			if strings.Contains(line, "KUBE-") && !strings.Contains(line, "KUBE-KUBELET-CANARY") && !strings.Contains(line, "KUBE-FIREWALL") &&
				!(needed && family == "iptables" && (strings.Contains(line, "KUBE-MARK-MASQ") || strings.Contains(line, "KUBE-POSTROUTING"))) {
				w.t.Errorf("%s: %s", family, line)
			}
		}
	}
	stay := []string{":KUBE-KUBELET-CANARY"}
	if needed {
		stay = append(stay, "-A CNI-HOSTPORT-SETMARK -s 10.244.0.0/16 -j KUBE-MARK-MASQ", "-A KUBE-MARK-MASQ -j MARK", "-j KUBE-POSTROUTING")
	}
	for _, rule := range stay {
		if !strings.Contains(w.shell("iptables-save -t nat"), rule) {
			w.t.Errorf("gone: %s", rule)
		}
	}
	if sets := w.shell("ipset list -n | grep KUBE- | grep -v KUBE-LOOP-BACK || true"); sets != "" { // it is KUBE-POSTROUTING's
		w.t.Errorf("sets: %s", sets)
	}
	if addresses := w.shell("ip -o address show dev kube-ipvs0"); addresses != "" {
		w.t.Errorf("addresses: %s", addresses)
	}
}

// runPage runs the commands of docs/migrate.md that look at a node that has been taken over.
func (w *world) runPage() {
	w.t.Helper()
	page, err := os.ReadFile("../../docs/migrate.md")
	w.must(err)
	n := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "curl ") || strings.HasPrefix(line, "! ") {
			w.shell(line)
			n++
		}
	}
	if n < 4 {
		w.t.Errorf("docs/migrate.md has %d such commands", n)
	}
}

// hasNothingOfOurs fails the test if anything of kube-ipvs is left that kube-proxy does not use.
func (w *world) hasNothingOfOurs(mode string) {
	w.t.Helper()
	left := w.shell("(iptables-save; ip6tables-save; ipset list -n; ip rule; ip -6 rule) | grep -e KIPVS -e 'lookup 759' || true; ip route show table all proto 175; ip -6 route show table all proto 175")
	if mode != kubeproxy.IPVS {
		left += w.shell("ipvsadm -Sn | grep -v -F '" + stranger + "'; ip -o link | grep kube-ipvs0 || true")
	}
	if left != "" {
		w.t.Errorf("left:\n%s", left)
	}
}
