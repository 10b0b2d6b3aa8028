package iptables

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
)

// kubeProxys are rules of kube-proxy's iptables mode, beside kubelet's, a CNI plugin's and ours.
const kubeProxys = `*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KIPVS-PREROUTING - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
-A PREROUTING -j KIPVS-PREROUTING
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-SERVICES -d 10.96.0.1/32 -m comment --comment "a -j KUBE-SEP-A" -j KUBE-SVC-A
-A KUBE-SVC-A -j KUBE-SEP-A
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-NODEPORTS - [0:0]
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -j KUBE-FIREWALL
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30000 -j ACCEPT
COMMIT
`

const mangleCanary = "*mangle\n:KUBE-PROXY-CANARY - [0:0]\n-X KUBE-PROXY-CANARY\nCOMMIT\n"

const filterJump = "*filter\n-D INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS\nCOMMIT\n"

const filterChain = "*filter\n:KUBE-NODEPORTS - [0:0]\n-X KUBE-NODEPORTS\nCOMMIT\n"

func TestKubeProxyRules(t *testing.T) {
	const portmap = ":CNI-HOSTPORT-DNAT - [0:0]\n-A CNI-HOSTPORT-DNAT -s 10.244.0.0/16 -j KUBE-MARK-MASQ\n"
	for _, tt := range []struct{ name, saved, jumps, chains string }{
		{"none", saved, "", ""},
		{
			"all of them, and none of kubelet's", kubeProxys,
			"*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n" +
				"-D POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\nCOMMIT\n" + filterJump,
			mangleCanary + "*nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-SEP-A - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n" +
				"-X KUBE-MARK-MASQ\n-X KUBE-POSTROUTING\n-X KUBE-SEP-A\n-X KUBE-SERVICES\n-X KUBE-SVC-A\nCOMMIT\n" + filterChain,
		},
		{
			"but what portmap needs", strings.Replace(kubeProxys, ":KUBE-SVC-A - [0:0]\n", ":KUBE-SVC-A - [0:0]\n"+portmap, 1),
			"*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n" + filterJump,
			mangleCanary + "*nat\n:KUBE-SEP-A - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n" +
				"-X KUBE-SEP-A\n-X KUBE-SERVICES\n-X KUBE-SVC-A\nCOMMIT\n" + filterChain,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			jumps, chains := kubeProxyRules(tt.saved)
			if diff := cmp.Diff([]string{tt.jumps, tt.chains}, []string{jumps, chains}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a removal left that did not end is seen, and what others need is not.
func TestHasKubeProxys(t *testing.T) {
	for saved, want := range map[string]bool{
		kubeProxys: true,
		"*filter\n:KUBE-FORWARD - [0:0]\nCOMMIT\n":    true,
		"*nat\n:KUBE-SEP-A - [0:0]\nCOMMIT\n":         true,
		"*nat\n:KUBE-MARK-MASQ - [0:0]\nCOMMIT\n":     false,
		"*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n":   false,
		"*filter\n-A INPUT -j KUBE-FORWARD\nCOMMIT\n": false,
		saved: false,
	} {
		if got := hasKubeProxys(saved); got != want {
			t.Errorf("%v of\n%s", got, saved)
		}
	}
}

// Kube-proxy serves once its rules are in, in either backend; its chains and jumps come before.
func TestKubeProxyServes(t *testing.T) {
	const begun = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n*filter\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j REJECT\nCOMMIT\n"
	for _, tt := range []struct {
		legacy, nft string
		want        bool
	}{{"", "", false}, {begun, "", false}, {"", begun, false}, {kubeProxys, begun, true}, {begun, kubeProxys, true}} {
		p := commands("-legacy", false, func(_ context.Context, _, name string, _ ...string) (string, error) {
			return map[string]string{"iptables-legacy-save": tt.legacy, "iptables-nft-save": tt.nft}[name], nil
		})
		if got, err := p.KubeProxyServes(t.Context(), inet.IPv4); got != tt.want || err != nil {
			t.Errorf("%t, %v with\n%s%s", got, err, tt.legacy, tt.nft)
		}
	}
}

// Both backends are read, and a missing one is none; the steps name the backend and remove from it.
func TestKubeProxy(t *testing.T) {
	var restored []string
	p := commands("-legacy", false, func(_ context.Context, stdin, name string, _ ...string) (string, error) {
		switch name {
		case "iptables-legacy-save":
			return kubeProxys, nil
		case "iptables-legacy-restore":
			restored = append(restored, stdin)
			return "", nil
		}
		return "", errors.New("no such program")
	})
	steps, err := p.KubeProxy(t.Context(), inet.IPv4)
	if want := "[jumps of kube-proxy in iptables (IPv4, legacy) chains of kube-proxy in iptables (IPv4, legacy)]"; err != nil || fmt.Sprint(steps) != want {
		t.Fatalf("%v, %v; want %s", steps, err, want)
	}
	if !p.SawKubeProxy(inet.IPv4) || p.SawKubeProxy(inet.IPv6) {
		t.Error("saw rules of kube-proxy where there are none, or none where there are")
	}
	for _, step := range steps {
		if err := step.Do(t.Context()); err != nil {
			t.Error(err)
		}
	}
	jumps, chains := kubeProxyRules(kubeProxys)
	if diff := cmp.Diff([]string{jumps, chains}, restored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A check that read the rules before kube-proxy's were removed, and ends after, does not bring them back.
func TestLateCheck(t *testing.T) {
	var mu sync.Mutex
	saved, reading, goOn := kubeProxys, make(chan struct{}), make(chan struct{})
	slow := true
	p := commands("-nft", true, func(_ context.Context, _, name string, _ ...string) (string, error) {
		mu.Lock()
		text, isSlow := saved, slow
		if name == "iptables-nft-save" {
			slow = false
		} else {
			text, isSlow = "", false
		}
		mu.Unlock()
		if isSlow {
			close(reading)
			<-goOn
		}
		return text, nil
	})
	checked := make(chan struct{})
	go func() {
		defer close(checked)
		if _, err := p.InSync(t.Context(), inet.IPv4); err != nil {
			t.Error(err)
		}
	}()
	<-reading
	mu.Lock()
	saved = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n" // the last step was carried out
	mu.Unlock()
	if steps, err := p.KubeProxy(t.Context(), inet.IPv4); len(steps) > 0 || err != nil { // as takeover.read does then
		t.Fatal(steps, err)
	}
	close(goOn)
	<-checked
	if p.SawKubeProxy(inet.IPv4) {
		t.Error("rules of kube-proxy that are removed count as seen")
	}
}

// Rules that no jump leads to serve nobody.
func TestKubeProxyServesNotWithoutJumps(t *testing.T) {
	without := strings.Replace(kubeProxys, "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n", "", 1)
	p := commands("-nft", true, func(_ context.Context, _, name string, _ ...string) (string, error) {
		return map[string]string{"iptables-nft-save": without}[name], nil
	})
	if serves, err := p.KubeProxyServes(t.Context(), inet.IPv4); serves || err != nil {
		t.Error(serves, err)
	}
}

// Tables of nft that cannot be listed are not absent: at first they count as seen, so that they are read again, and later nothing changes.
func TestUnlistedTables(t *testing.T) {
	p := commands("-nft", true, func(context.Context, string, string, ...string) (string, error) {
		return "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", nil
	})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for i, tt := range []struct {
		ctx context.Context
		saw bool
	}{{cancelled, true}, {t.Context(), false}, {cancelled, false}} {
		if _, err := p.InSync(tt.ctx, inet.IPv4); err != nil {
			t.Fatal(err)
		}
		if got := p.SawKubeProxy(inet.IPv4); got != tt.saw {
			t.Errorf("reading %d: seen %v, want %v", i+1, got, tt.saw)
		}
	}
}
