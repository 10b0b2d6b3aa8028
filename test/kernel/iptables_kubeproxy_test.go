//go:build kernel

package kernel

import (
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
)

func TestIptablesOfKubeProxyLegacy(t *testing.T) { kubeProxyRemoved(t, "legacy", nil) }

// kubeProxyRemoved makes rules as kube-proxy and others have them, and looks that its own can be removed, step by step, and no others.
// An nftables' table is one more step.
func kubeProxyRemoved(t *testing.T, kind string, addTable func(inet.Family)) {
	ipsetNamespace(t)
	ipsetRun(t, "iptables-"+kind, "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
	p, err := iptables.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for f, program := range map[inet.Family]string{inet.IPv4: "iptables-" + kind, inet.IPv6: "ip6tables-" + kind} {
		if steps, err := p.KubeProxy(t.Context(), f); err != nil || len(steps) != 0 {
			t.Errorf("%v: steps %v before there is anything, %v", f, steps, err)
		}
		steerShell(t, program+"-restore --noflush <<'END'\n"+`*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:OTHERS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -p tcp -m comment --comment "default/a:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A OTHERS -j RETURN
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A INPUT -j KUBE-FIREWALL
COMMIT
END`)
		want := 2
		if addTable != nil {
			addTable(f)
			want++
		}
		for {
			steps, err := p.KubeProxy(t.Context(), f)
			if err != nil || len(steps) != want {
				t.Fatalf("%v: steps %v, %v; want %d", f, steps, err, want)
			}
			if want == 0 {
				break
			}
			if err := steps[0].Do(t.Context()); err != nil {
				t.Fatal(err)
			}
			want--
		}
		left := steerShell(t, program+"-save")
		for _, mine := range []string{"KUBE-SERVICES", "KUBE-SVC", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD"} {
			if strings.Contains(left, mine) {
				t.Errorf("%v: %s is left:\n%s", f, mine, left)
			}
		}
		for _, others := range []string{"-A OTHERS -j RETURN", "-A INPUT -j KUBE-FIREWALL"} {
			if !strings.Contains(left, others) {
				t.Errorf("%v: gone: %s", f, others)
			}
		}
	}
}
