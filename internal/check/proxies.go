package check

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kube-ipvs/ipvs/steering"
)

type proxyFacts struct {
	rules    []rule
	nftables []string // names of nft tables with their family
	servers  int      // virtual servers of IPVS
	bound    int      // addresses on kube-ipvs0
	routers  bool     // kube-router's link for service addresses
	running  []string // names of programs that are service proxies
	runs     bool     // a kube-ipvs is running
}

// proxyPrograms are service proxies by the names of their processes.
var proxyPrograms = []string{"kube-proxy", "kube-router"}

// takenOver is the advice where kube-proxy left something. Its own --cleanup would end connections.
const takenOver = "stop kube-proxy here: kube-ipvs then takes over what it left, and removes it"

func lookProxies(ctx context.Context, n *Node, _ Wanted) (proxyFacts, error) {
	s, err := n.Survey(ctx)
	if err != nil {
		return proxyFacts{}, err
	}
	f := proxyFacts{rules: slices.Concat(rulesOf(s.Saved, "nft"), rulesOf(s.Saved, "legacy")), nftables: s.NFTable}
	text, err := os.ReadFile(filepath.Join(n.Proc, "thread-self/net/ip_vs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	for line := range strings.Lines(string(text)) {
		first, _, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"TCP", "UDP", "SCTP", "FWM"}, first) {
			f.servers++
		}
	}
	if link, err := net.InterfaceByName(steering.LinkName); err == nil {
		addrs, err := link.Addrs()
		if err != nil {
			return f, err
		}
		f.bound = len(addrs)
	}
	_, err = net.InterfaceByName("kube-dummy-if")
	f.routers = err == nil
	f.running = n.programs(proxyPrograms)
	f.runs, err = n.runs()
	return f, err
}

// programs returns which of these programs run, as far as this process sees others.
func (n *Node) programs(names []string) []string {
	files, _ := filepath.Glob(filepath.Join(n.Proc, "[0-9]*/comm")) // the pattern is valid
	var out []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if name := strings.TrimSpace(string(text)); err == nil && slices.Contains(names, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// runs reports whether a kube-ipvs runs in this network namespace: its lock is taken.
func (n *Node) runs() (bool, error) {
	text, err := os.ReadFile(filepath.Join(n.Proc, "thread-self/net/unix"))
	return strings.Contains(string(text), " @kube-ipvs\n"), err
}

func judgeProxies(f proxyFacts, _ Wanted) []Finding {
	count := func(chains ...string) (n int) {
		for _, r := range f.rules {
			if slices.ContainsFunc(chains, func(c string) bool { return strings.HasPrefix(r.Chain, c) }) {
				n++
			}
		}
		return n
	}
	ours := f.runs || slices.ContainsFunc(f.rules, rule.isOurs)
	var out []Finding
	for _, name := range f.running {
		if name == "kube-router" && !f.routers { // it may do only network policies, or routing
			continue
		}
		out = append(out, Finding{Severity: Error, Found: name + " runs: two proxies would undo each other's work", Do: "remove its pod from this node (a nodeAffinity in its DaemonSet), and its rules as told here"})
	}
	if n := count("KUBE-SERVICES", "KUBE-SVC-", "KUBE-SEP-", "KUBE-NODE", "KUBE-EXT-"); n > 0 {
		out = append(out, Finding{Severity: Warning, Found: many(n, "rule", "rules") + " of kube-proxy (iptables or ipvs mode)", Do: takenOver})
	}
	for _, table := range f.nftables {
		if strings.HasSuffix(table, " kube-proxy") {
			out = append(out, Finding{Severity: Warning, Found: "the table of kube-proxy's nftables mode: " + table, Do: takenOver})
		}
	}
	if f.routers {
		out = append(out, Finding{Severity: Warning, Found: "kube-router's link kube-dummy-if: it serves Services here", Do: "run kube-router with --run-service-proxy=false, then kube-router --cleanup-config"})
	}
	if n := count("CILIUM_"); n > 0 {
		out = append(out, Finding{Severity: Note, Found: "Cilium runs here; with kubeProxyReplacement it serves Services itself, before kube-ipvs sees a packet", Do: "set kubeProxyReplacement to false if kube-ipvs is to serve them"})
	}
	if !ours && f.bound > 0 {
		out = append(out, Finding{Severity: Warning, Found: many(f.bound, "address", "addresses") + " on " + steering.LinkName + " of kube-proxy's ipvs mode", Do: takenOver})
	}
	if !ours && f.servers > 0 {
		out = append(out, Finding{Severity: Warning, Found: many(f.servers, "virtual server", "virtual servers") + " of others: left alone, and a Service at the same address and port is not served",
			Do: "ipvsadm -Ln; ipvsadm -C if nobody needs them any more"})
	}
	found := "no other service proxy"
	if f.runs {
		found += "; kube-ipvs is running"
	}
	return orOK(out, found)
}
