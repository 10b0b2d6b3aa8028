package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/node"
)

// expect compares findings, a line each: the severity and the beginning of what was found, and "->" if there is something to do.
func expect(t *testing.T, got []Finding, want ...string) {
	t.Helper()
	var lines []string
	for i, f := range got {
		line := fmt.Sprintf("%s: %s", f.Severity, f.Found)
		if i < len(want) {
			if text := strings.TrimSuffix(want[i], " ->"); strings.HasPrefix(line, text) {
				line = text
			}
		}
		if f.Do != "" {
			line += " ->"
		}
		lines = append(lines, line)
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKernel(t *testing.T) {
	for _, tt := range []struct{ release, want string }{
		{"6.1.0-13-amd64", "ok: Linux 6.1.0-13-amd64"},
		{"5.9.0", "ok: Linux 5.9.0"},
		{"5.4.0-150-generic", "warning: Linux 5.4.0-150-generic: a new connection from the port of an old one stays ->"},
		{"3.10.0-1160.el7", "error: Linux 3.10.0-1160.el7 has sets without marks ->"},
		{"", `unknown: the release "" has no number`},
	} {
		t.Run(tt.release, func(t *testing.T) { expect(t, judgeKernel(tt.release, Wanted{}), tt.want) })
	}
}

func TestModules(t *testing.T) {
	w := Wanted{Modules: []string{"ip_vs", "xt_set"}}
	for _, tt := range []struct {
		name string
		in   moduleFacts
		want []string
	}{
		{"all there", moduleFacts{state: map[string]moduleState{"ip_vs": loaded, "xt_set": loaded}}, []string{"ok: all 2 are loaded or built in"}},
		{"one is missing", moduleFacts{release: "6.1", state: map[string]moduleState{"ip_vs": loaded, "xt_set": absent}}, []string{"error: Linux 6.1 does not have xt_set ->"}},
		{"both can be loaded", moduleFacts{mayLoad: true, state: map[string]moduleState{"ip_vs": loadable, "xt_set": loadable}},
			[]string{"note: not loaded yet, which kube-ipvs does when it starts: ip_vs xt_set ->"}},
		{"one can, but not from here", moduleFacts{state: map[string]moduleState{"ip_vs": loaded, "xt_set": loadable}},
			[]string{"warning: not loaded yet, and without CAP_SYS_MODULE kube-ipvs can load only those that the kernel asks for: xt_set ->"}},
		{"no list", moduleFacts{release: "6.1", state: map[string]moduleState{"ip_vs": loaded, "xt_set": unseen}},
			[]string{"unknown: neither loaded nor, as /lib/modules/6.1 is not there, known to be built in: xt_set ->"}},
		{"some of each", moduleFacts{mayLoad: true, release: "6.1", state: map[string]moduleState{"ip_vs": loadable, "xt_set": absent}},
			[]string{"error: Linux 6.1 does not have xt_set ->", "note: not loaded yet, which kube-ipvs does when it starts: ip_vs ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeModules(tt.in, w), tt.want...) })
	}
}

// write makes files below a folder.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestModulesAreFound(t *testing.T) {
	dir := t.TempDir()
	n := &Node{Sys: filepath.Join(dir, "sys"), Modules: filepath.Join(dir, "modules")}
	w := Wanted{Modules: []string{"ip_vs", "dummy", "xt_set", "xt_NETMAP"}}
	want := map[string]moduleState{"ip_vs": loaded, "dummy": unseen, "xt_set": unseen, "xt_NETMAP": unseen}
	write(t, dir, map[string]string{"sys/module/ip_vs/initstate": "live"})
	for range 2 {
		got, err := lookModules(t.Context(), n, w)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.state); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		write(t, filepath.Join(n.Modules, n.release()), map[string]string{
			"modules.builtin": "kernel/drivers/net/dummy.ko\n",
			"modules.dep":     "kernel/net/netfilter/xt_set.ko.xz: kernel/net/netfilter/ipset/ip_set.ko.xz\n",
		})
		want = map[string]moduleState{"ip_vs": loaded, "dummy": loaded, "xt_set": loadable, "xt_NETMAP": absent}
	}
}

func TestCapabilities(t *testing.T) {
	const both = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	for _, tt := range []struct {
		name string
		in   capabilityFacts
		want []string
	}{
		{"root", capabilityFacts{effective: ^uint64(0), procSys: "/proc/sys"}, []string{"ok: CAP_NET_ADMIN and CAP_NET_RAW; /proc/sys can be written"}},
		{"a container", capabilityFacts{effective: both, readOnly: true, procSys: "/proc/sys"}, []string{"note: /proc/sys is mounted read-only ->"}},
		{"nobody", capabilityFacts{}, []string{"error: CAP_NET_ADMIN is missing ->", "error: CAP_NET_RAW is missing ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeCapabilities(tt.in, Wanted{}), tt.want...) })
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []settingFact
		want []string
	}{
		{"as wanted, though it cannot be written", []settingFact{{name: "net/ipv4/ip_forward", want: "1", now: "1"}}, []string{"ok: all 1 are"}},
		{"not yet", []settingFact{{name: "net/ipv4/ip_forward", want: "1", now: "0", writable: true}}, []string{"note: net/ipv4/ip_forward is 0, not 1; kube-ipvs sets it"}},
		{"not from here", []settingFact{{name: "net/ipv4/ip_forward", want: "1", now: "0"}}, []string{"error: net/ipv4/ip_forward is 0, not 1, and cannot be written from here ->"}},
		{"IPVS is not loaded", []settingFact{{name: "net/ipv4/vs/conntrack", want: "1", missing: true}}, []string{"note: there when ip_vs is loaded: net/ipv4/vs/conntrack"}},
		{"unknown to the kernel", []settingFact{{name: "net/ipv4/other", want: "1", missing: true}}, []string{"error: this kernel has no net/ipv4/other ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeSettings(tt.in, Wanted{}), tt.want...) })
	}
}

func TestSettingsAreRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"net/a": "1\t2\n", "net/b": "0\n"})
	got, err := lookSettings(t.Context(), &Node{ProcSys: dir}, Wanted{Settings: []sysctl.Setting{{Name: "net/a", Value: "1 2"}, {Name: "net/b", Value: "1"}, {Name: "net/c", Value: "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []settingFact{{"net/a", "1 2", "1 2", false, true}, {"net/b", "1", "0", false, true}, {"net/c", "1", "", true, false}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestConntrack(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   conntrackFacts
		want []string
	}{
		{"not loaded", conntrackFacts{missing: true}, []string{"note: connection tracking is not loaded yet"}},
		{"room", conntrackFacts{count: 10, max: 262144, buckets: 65536}, []string{"ok: 10 of 262144 connections (0 %), 65536 buckets"}},
		{"no limit", conntrackFacts{count: 10}, []string{"ok: 10 connections, without a limit"}},
		{"three quarters", conntrackFacts{count: 75, max: 100, buckets: 100}, []string{"warning: 75 of 100 connections (75 %), 100 buckets ->"}},
		{"full", conntrackFacts{count: 100, max: 100, buckets: 100}, []string{"error: 100 of 100 connections (100 %), 100 buckets ->"}},
		{"few buckets", conntrackFacts{count: 0, max: 1 << 20, buckets: 1 << 14}, []string{"ok: 0 of 1048576 connections", "warning: up to 64 connections in one bucket ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeConntrack(tt.in, Wanted{}), tt.want...) })
	}
}

// survey returns a survey of rules of IPv4.
func survey(used, nft, legacy string) iptables.Survey {
	return iptables.Survey{Used: used, Saved: []iptables.Saved{
		{Backend: "nft", Family: inet.IPv4, Text: nft}, {Backend: "nft", Family: inet.IPv6},
		{Backend: "legacy", Family: inet.IPv4, Text: legacy}, {Backend: "legacy", Family: inet.IPv6},
	}}
}

func TestBackends(t *testing.T) {
	const cni, ours = "*nat\n-A POSTROUTING -j CNI-HOSTPORT\n-A CNI-HOSTPORT -j RETURN\n", "*raw\n-A PREROUTING -j KIPVS-PREROUTING\n-A KIPVS-PREROUTING -j RETURN\n"
	noIPv6 := survey("nft", "", "")
	noIPv6.Saved[1].Err = errors.New("no module")
	for _, tt := range []struct {
		name string
		in   iptables.Survey
		want []string
	}{
		{"none", iptables.Survey{Broken: errors.New("no iptables works here")}, []string{"error: no iptables works here ->"}},
		{"one", survey("nft", cni+ours, ""), []string{"ok: backend nft, the only one in use"}},
		{"both", survey("nft", cni, cni), []string{"warning: both backends are in use: nft by kube-ipvs and 2 rules of others, legacy by 2 rules of others (nat POSTROUTING, nat CNI-HOSTPORT) ->"}},
		{"the other", survey("nft", ours, cni), []string{"warning: kube-ipvs uses nft, all others legacy ->"}},
		{"ours in the other", survey("nft", cni, ours), []string{"warning: 2 rules of kube-ipvs in legacy ->"}},
		{"no IPv6", noIPv6, []string{"ok: backend nft", "note: ip6tables cannot be used, so IPv6 is not served: no module"}},
		{"rules that only nft can express", survey("nft", "# Table `mangle' is incompatible, use 'nft' tool.\n# Table `mine' is incompatible, use 'nft' tool.\n", ""),
			[]string{"error: somebody has rules in IPv4 table mangle that only nft can express ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeBackends(tt.in, Wanted{}), tt.want...) })
	}
}

func TestMarks(t *testing.T) {
	rules := func(lines ...string) []rule {
		return rulesOf(survey("nft", "*mangle\n"+strings.Join(lines, "\n"), "").Saved, "nft")
	}
	const free = "ok: nobody else uses 0x5010"
	for _, tt := range []struct {
		name string
		in   markFacts
		want []string
	}{
		{"nobody", markFacts{}, []string{free}},
		{"kube-ipvs itself", markFacts{rules: rules("-A KIPVS-OWN -j MARK --set-xmark 0x4000/0x4000"), routing: []RoutingRule{{Priority: 92, Mask: 0x1000, Ours: true}}}, []string{free}},
		{"other bits", markFacts{rules: rules("-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000"), routing: []RoutingRule{{Priority: 512, Mask: 0x80}}}, []string{free}},
		{"kube-proxy's", markFacts{rules: rules("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000")}, []string{free}},
		{"the same bit", markFacts{rules: rules("-A SITE -j MARK --set-xmark 0x1000/0x1000", "-A SITE -m mark --mark 0x10/0x30 -j DROP")},
			[]string{"warning: iptables chain SITE of table mangle uses 0x1010 of the mark ->"}},
		{"the connection's mark", markFacts{rules: rules("-A SITE -j CONNMARK --restore-mark --nfmask 0xf000 --ctmask 0xf000")}, []string{"warning: iptables chain SITE of table mangle uses 0x5000 ->"}},
		{"whole marks", markFacts{rules: rules("-A SITE -j MARK --set-xmark 0x1/0xffffffff", "-A SITE -m mark --mark 0x1 -j ACCEPT")},
			[]string{free, "note: reads or writes whole marks: iptables chain SITE of table mangle"}},
		{"a routing rule", markFacts{routing: []RoutingRule{{Priority: 1000, Mask: 0x4000}}}, []string{"warning: routing rule 1000 uses 0x4000 ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeMarks(tt.in, Wanted{Bits: 0x5010}), tt.want...) })
	}
}

func TestRouting(t *testing.T) {
	const free = "ok: no rule of others comes first, and tables 7597 to 7599 are free"
	for _, tt := range []struct {
		name string
		in   routingFacts
		want []string
	}{
		{"the kernel's own, and ours", routingFacts{rules: []RoutingRule{{Priority: 0, Table: 255}, {Priority: 90, Table: 7598, Ours: true}, {Priority: 32766, Table: 254}}, routes: []routingRoute{{"10.0.0.1", true}}}, []string{free}},
		{"Calico's and AWS's", routingFacts{rules: []RoutingRule{{Priority: 99, Table: 254}, {Priority: 512, Table: 254}}}, []string{free}},
		{"before all", routingFacts{rules: []RoutingRule{{Text: "pref 1 lookup 100", Priority: 1, Table: 100}}}, []string{"warning: this rule comes before all that kube-ipvs can have, so packets to external addresses may go another way: pref 1 lookup 100 ->"}},
		{"before ours", routingFacts{rules: []RoutingRule{{Text: "pref 6 lookup 100", Priority: 6, Table: 100}}}, []string{free, "note: kube-ipvs puts its own rules before this one: pref 6 lookup 100"}},
		{"our table", routingFacts{rules: []RoutingRule{{Text: "pref 200 lookup 7598", Priority: 200, Table: 7598}}}, []string{"error: somebody's rule looks up a table of kube-ipvs, which removes it: pref 200 lookup 7598 ->"}},
		{"a route in our table", routingFacts{routes: []routingRoute{{"default in table 7599", false}}}, []string{"error: somebody's route is in a table of kube-ipvs, which removes it: default in table 7599 ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeRouting(tt.in, Wanted{}), tt.want...) })
	}
}

func TestProxies(t *testing.T) {
	rules := func(text string) []rule { return rulesOf(survey("nft", text, "").Saved, "nft") }
	for _, tt := range []struct {
		name string
		in   proxyFacts
		want []string
	}{
		{"none", proxyFacts{rules: rules("*filter\n-A INPUT -j KUBE-FIREWALL\n-A INPUT -j cali-INPUT\n")}, []string{"ok: no other service proxy"}},
		{"kube-ipvs runs", proxyFacts{runs: true, servers: 20, bound: 20}, []string{"ok: no other service proxy; kube-ipvs is running"}},
		{"kube-ipvs ran", proxyFacts{rules: rules("*raw\n-A PREROUTING -j KIPVS-PREROUTING\n"), servers: 20}, []string{"ok: no other service proxy"}},
		{"kube-proxy runs", proxyFacts{running: []string{"kube-proxy"}, rules: rules("*nat\n-A KUBE-SERVICES -j KUBE-SVC-X\n-A KUBE-SVC-X -j KUBE-SEP-X\n")},
			[]string{"error: kube-proxy runs ->", "warning: 2 rules of kube-proxy ->"}},
		{"kube-proxy ran in ipvs mode", proxyFacts{rules: rules("*nat\n-A KUBE-SERVICES -j RETURN\n"), servers: 3, bound: 2},
			[]string{"warning: 1 rule of kube-proxy ->", "warning: 2 addresses on kube-ipvs0 ->", "warning: 3 virtual servers of others ->"}},
		{"kube-proxy ran in nftables mode", proxyFacts{nftables: []string{"ip kube-proxy", "ip filter"}}, []string{"warning: the table of kube-proxy's nftables mode: ip kube-proxy ->"}},
		{"kube-router for policies", proxyFacts{running: []string{"kube-router"}}, []string{"ok: no other service proxy"}},
		{"kube-router for Services", proxyFacts{running: []string{"kube-router"}, routers: true}, []string{"error: kube-router runs ->", "warning: kube-router's link kube-dummy-if ->"}},
		{"Cilium", proxyFacts{rules: rules("*nat\n-A CILIUM_POST_nat -j RETURN\n")}, []string{"ok: no other service proxy", "note: Cilium runs here ->"}},
		{"a director", proxyFacts{servers: 1}, []string{"warning: 1 virtual server of others ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeProxies(tt.in, Wanted{}), tt.want...) })
	}
}

func TestPorts(t *testing.T) {
	at := netip.MustParseAddrPort
	w := Wanted{Ports: []Port{{"healthz", at("0.0.0.0:10256")}, {"metrics", at("127.0.0.1:10249")}}}
	for _, tt := range []struct {
		name string
		in   portFacts
		want []string
	}{
		{"free", portFacts{}, []string{"ok: healthz can listen on 0.0.0.0:10256", "ok: metrics can listen on 127.0.0.1:10249"}},
		{"at another address", portFacts{listeners: []listener{{at: at("192.0.2.1:10249"), program: "other"}}}, []string{"ok: healthz can", "ok: metrics can"}},
		{"kube-ipvs", portFacts{runs: true, listeners: []listener{{at: at("[::]:10256"), program: "kube-ipvs"}, {at: at("127.0.0.1:10249")}}},
			[]string{"ok: kube-ipvs listens on [::]:10256 (healthz)", "ok: kube-ipvs listens on 127.0.0.1:10249 (metrics)"}},
		{"kube-proxy", portFacts{listeners: []listener{{at: at("[::]:10256"), program: "kube-proxy"}}}, []string{"error: kube-proxy listens on [::]:10256, which is needed for healthz ->", "ok: metrics can"}},
		{"nobody that can be seen", portFacts{listeners: []listener{{at: at("127.0.0.1:10249")}}}, []string{"ok: healthz can", "error: a process that cannot be seen from here listens on 127.0.0.1:10249 ->"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgePorts(tt.in, w), tt.want...) })
	}
}

func TestAPI(t *testing.T) {
	w := Wanted{API: "https://10.96.0.1:443"}
	pod := Wanted{API: "https://10.96.0.1:443", InCluster: true}
	addrs := []netip.Addr{netip.MustParseAddr("10.96.0.1")}
	for _, tt := range []struct {
		name string
		w    Wanted
		in   apiFacts
		want string
	}{
		{"not configured", Wanted{NoAPI: errors.New("not in a cluster")}, apiFacts{}, "error: not in a cluster ->"},
		{"manifests", Wanted{}, apiFacts{}, "ok: none is needed: --manifests has the Services"},
		{"an address of its own", w, apiFacts{addrs: addrs, answer: APIAnswer{Version: "v1.37.0", ServiceIPs: []netip.Addr{netip.MustParseAddr("10.97.0.1")}}}, "ok: https://10.96.0.1:443 answers (v1.37.0), and is no cluster IP"},
		{"the Service's address", w, apiFacts{addrs: addrs, answer: APIAnswer{ServiceIPs: addrs}}, "error: https://10.96.0.1:443 is a cluster IP (10.96.0.1) ->"},
		{"in the range", w, apiFacts{addrs: addrs, answer: APIAnswer{Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}}, "error: https://10.96.0.1:443 is a cluster IP (10.96.0.1) ->"},
		{"no answer", w, apiFacts{addrs: addrs, unreached: errors.New("timeout")}, "error: https://10.96.0.1:443 does not answer: timeout ->"},
		{"no answer in a pod", pod, apiFacts{addrs: addrs, unreached: errors.New("timeout")}, "error: https://10.96.0.1:443 does not answer: timeout. Kubelet gives each pod this address ->"},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeAPI(tt.in, tt.w), tt.want) })
	}
}

func TestTime(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   timeFacts
		want string // of the first finding
	}{
		{"agrees", timeFacts{reached: true, synchronised: true, skew: time.Second}, "ok: the API server's clock agrees"},
		{"not reached", timeFacts{synchronised: true}, "ok: a program keeps this node's clock"},
		{"behind", timeFacts{reached: true, synchronised: true, skew: 40 * time.Second}, "warning: this node's clock is 40s behind the API server's ->"},
		{"far ahead", timeFacts{reached: true, synchronised: true, skew: -time.Hour}, "error: this node's clock is 1h0m0s ahead of the API server's: certificates and tokens may not be valid ->"},
		{"nobody keeps it", timeFacts{reached: true}, "note: no program tells the kernel that it keeps this node's clock ->"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.source = "tsc"
			expect(t, judgeTime(tt.in, Wanted{}), tt.want)
			tt.in.source = "refined-jiffies"
			expect(t, judgeTime(tt.in, Wanted{}), tt.want, "warning: the kernel's monotonic clock is refined-jiffies ->")
		})
	}
}

func TestBridge(t *testing.T) {
	cni := node.Bridge{Name: "cni0", IPv4: true, IPv6: true}
	for _, tt := range []struct {
		name, want string
		in         bridgeFacts
	}{
		{"none", "ok: no bridge has an address of pods", bridgeFacts{}},
		{"as it should be", "ok: packets between pods on bridge cni0 pass iptables", bridgeFacts{bridge: cni, loaded: true}},
		{"no br_netfilter", "error: pods on bridge cni0 get no answer from Services with an endpoint on the same bridge: net/bridge/bridge-nf-call-iptables is not 1 ->",
			bridgeFacts{bridge: cni, off: []string{"net/bridge/bridge-nf-call-iptables"}}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeBridge(tt.in, Wanted{}), tt.want) })
	}
}

func TestListenersAreRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"thread-self/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 0100007F:2809 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n" +
			"   1: 0100007F:2809 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n",
		"thread-self/net/tcp6": "  sl  local_address\n   0: 00000000000000000000000000000000:2810 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n" +
			"   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0 100 0 0 10 0\n",
		"thread-self/net/unix": "Num       RefCount Protocol Flags    Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 99 @kube-ipvs\n",
		"77/comm":              "other\n",
	})
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "77/fd"), 0o755), os.Symlink("socket:[4711]", filepath.Join(dir, "77/fd/3"))); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort
	n, w := &Node{Proc: dir}, Wanted{Ports: []Port{{"healthz", at("0.0.0.0:10256")}, {"metrics", at("127.0.0.1:10249")}}}
	got, err := lookPorts(t.Context(), n, w)
	if err != nil {
		t.Fatal(err)
	}
	want := []listener{{at("127.0.0.1:10249"), "4711", "other"}, {at("[::]:10256"), "4713", ""}}
	if !slices.Equal(got.listeners, want) || !got.runs {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A check that fails is a finding, and does not stop the others.
func TestRun(t *testing.T) {
	n := NewNode(t.TempDir(), func(context.Context) (APIAnswer, error) { return APIAnswer{}, errors.New("no answer") })
	n.Survey = func(context.Context) (iptables.Survey, error) { return iptables.Survey{}, errors.New("broken") }
	found := Run(t.Context(), n, Wanted{API: "https://127.0.0.1:1"})
	var names []string
	unknown := 0
	for _, f := range found {
		if !slices.Contains(names, f.Check) {
			names = append(names, f.Check)
		}
		if f.Severity == Unknown && strings.Contains(f.Found, "cannot be examined: broken") {
			unknown++
		}
	}
	if !slices.Equal(names, Names()) || unknown != 3 {
		t.Errorf("%d checks need the rules; findings: %+v", unknown, found)
	}
	if status := Status(found); status != 1 { // the API server does not answer
		t.Errorf("exit status %d", status)
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		in   []Severity
		want int
	}{
		{nil, 0}, {[]Severity{OK, Note, Warning}, 0}, {[]Severity{Unknown, OK}, 2}, {[]Severity{Unknown, Error}, 1},
	} {
		var found []Finding
		for _, s := range tt.in {
			found = append(found, Finding{Severity: s})
		}
		if got := Status(found); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.in, got, tt.want)
		}
	}
}
