package iptables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"kube-ipvs/internal/inet"
)

// A Removal is one step in which rules of kube-proxy are removed.
type Removal struct {
	Name string                      // names the rules
	do   func(context.Context) error // nil, as in a Fake's: nothing
}

// Step returns a step that does something.
func Step(name string, do func(context.Context) error) Removal { return Removal{name, do} }

// Do carries the step out, in one transaction a table.
func (r Removal) Do(ctx context.Context) error {
	if r.do == nil {
		return ctx.Err()
	}
	return r.do(ctx)
}

// String returns the name.
func (r Removal) String() string { return r.Name }

// kubeProxyTable is the table that kube-proxy's nftables mode has in each family.
const kubeProxyTable = "kube-proxy"

// kubeProxyChains are the chains of kube-proxy's iptables and ipvs modes, apart from those of single Services. Kubelet has
// others of the same prefix: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT and, once, KUBE-MARK-DROP.
var kubeProxyChains = []string{
	"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL",
	"KUBE-PROXY-CANARY", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
}

// kubeProxyServices begin the names of the chains of single Services and endpoints.
var kubeProxyServices = []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-XLB-", "KUBE-FW-", "KUBE-SEP-"}

func isKubeProxys(chain string) bool {
	return slices.Contains(kubeProxyChains, chain) || slices.ContainsFunc(kubeProxyServices, func(p string) bool { return strings.HasPrefix(chain, p) })
}

// KubeProxy implements Kernel.
func (p *Commands) KubeProxy(ctx context.Context, f inet.Family) ([]Removal, error) {
	reading := p.reading()
	saved, others, err := p.saveBoth(ctx, f)
	if err != nil {
		return nil, err
	}
	table, err := p.notice(ctx, f, reading, saved)
	return slices.Concat(p.removals(f, saved), p.other().removals(f, others), table), err
}

// saveBoth returns the output of iptables-save, and that of the other backend: nothing, if the node lacks it.
func (p *Commands) saveBoth(ctx context.Context, f inet.Family) (saved, others string, err error) {
	if saved, err = p.save(ctx, f); err != nil {
		return "", "", err
	}
	if others, err = p.other().save(ctx, f); err != nil {
		return saved, "", ctx.Err()
	}
	return saved, others, nil
}

// KubeProxyServes implements Kernel.
func (p *Commands) KubeProxyServes(ctx context.Context, f inet.Family) (bool, error) {
	saved, others, err := p.saveBoth(ctx, f)
	if err != nil {
		return false, err
	}
	if hasServices(saved) || hasServices(others) {
		return true, nil
	}
	table, err := nftTable(ctx, f) // one transaction makes it with all that is in it
	return table != nil, err
}

// hasServices reports whether kube-proxy's chain of all Services has rules in the output of iptables-save.
func hasServices(saved string) bool {
	rules, jump := false, false
	for l := range linesOf(saved) {
		if l.table == "nat" && l.rule != "" {
			rules = rules || l.chain == "KUBE-SERVICES"
			jump = jump || l.chain == "PREROUTING" && target(l.rule) == "KUBE-SERVICES"
		}
	}
	return rules && jump
}

// SawKubeProxy implements Kernel.
func (p *Commands) SawKubeProxy(f inet.Family) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kubeProxy[f]
}

// notice notes whether kube-proxy's rules are in the output of iptables-save, or it has a table of its own, whose removal it returns.
func (p *Commands) notice(ctx context.Context, f inet.Family, reading int, saved string) (table []Removal, err error) {
	table, err = nftTable(ctx, f)
	p.mu.Lock()
	defer p.mu.Unlock()
	saw := hasKubeProxys(saved) || table != nil
	if err != nil && !saw {
		if p.newest[f] > 0 {
			return nil, err
		}
		saw = true // nothing is known yet: KubeProxy reads it again, and reports the error
	}
	if reading > p.newest[f] { // or it began before rules were removed, and ended late
		p.newest[f], p.kubeProxy[f] = reading, saw
	}
	return table, err
}

// reading numbers a reading of all rules that begins.
func (p *Commands) reading() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readings++
	return p.readings
}

func (p *Commands) setKubeProxy(f inet.Family, saw bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kubeProxy[f] = saw
}

// hasKubeProxys reports whether the output of iptables-save has chains of kube-proxy that others do not need: a part of them is left
// if a removal did not end.
func hasKubeProxys(saved string) bool {
	for _, name := range kubeProxyChains {
		if name != "KUBE-MARK-MASQ" && name != "KUBE-POSTROUTING" && strings.Contains(saved, "\n:"+name+" ") {
			return true
		}
	}
	return slices.ContainsFunc(kubeProxyServices, func(prefix string) bool { return strings.Contains(saved, "\n:"+prefix) })
}

// removals returns the steps in which kube-proxy's rules in the output of iptables-save are removed: the jumps, which end its work,
// then the chains.
func (p *Commands) removals(f inet.Family, saved string) []Removal {
	jumps, chains := kubeProxyRules(saved)
	var out []Removal
	for _, step := range []struct{ name, text string }{{"jumps", jumps}, {"chains", chains}} {
		if step.text != "" {
			out = append(out, Removal{
				Name: fmt.Sprintf("%s of kube-proxy in iptables (%v, %s)", step.name, f, p.Backend()),
				do:   func(ctx context.Context) error { return p.restore(ctx, f, step.text) },
			})
		}
	}
	return out
}

// kubeProxyRules returns the inputs of iptables-restore --noflush that remove kube-proxy's jumps and chains from the output of
// iptables-save; "" if there are none. A chain that others' rules lead to stays, with all that it leads to: the
// portmap plugin of CNI marks by KUBE-MARK-MASQ, whose mark KUBE-POSTROUTING obeys.
func kubeProxyRules(saved string) (jumps, chains string) {
	var jump, chain strings.Builder
	for _, t := range split(saved) {
		kept, isGone := t.kept(), map[string]bool{}
		var gone []string
		for _, name := range t.chains {
			if isKubeProxys(name) && !kept[name] {
				gone, isGone[name] = append(gone, name), true
			}
		}
		var lines []string
		for _, l := range t.rules {
			if !isKubeProxys(l.chain) && isGone[target(l.rule)] {
				lines = append(lines, fmt.Sprintf("-D %s %s\n", l.chain, l.rule))
			}
		}
		if lines != nil {
			fmt.Fprintf(&jump, "*%s\n%sCOMMIT\n", t.name, strings.Join(lines, ""))
		}
		if gone != nil {
			fmt.Fprintf(&chain, "*%s\n:%s - [0:0]\n-X %s\nCOMMIT\n", t.name, strings.Join(gone, " - [0:0]\n:"), strings.Join(gone, "\n-X "))
		}
	}
	return jump.String(), chain.String()
}

// A table has one table of the output of iptables-save.
type table struct {
	name   string
	chains []string // made by users
	rules  owned
}

func split(saved string) (out []table) {
	for l := range linesOf(saved) {
		if len(out) == 0 || out[len(out)-1].name != l.table {
			out = append(out, table{name: l.table})
		}
		t := &out[len(out)-1]
		if l.rule == "" {
			t.chains = append(t.chains, l.chain)
		} else {
			t.rules = append(t.rules, l)
		}
	}
	return out
}

// kept returns the chains of kube-proxy that others need. Its own jumps are in built-in chains, and none leads to KUBE-MARK-MASQ.
func (t table) kept() map[string]bool {
	kept, rules, foreign := map[string]bool{}, map[string]owned{}, map[string]bool{}
	for _, name := range t.chains {
		foreign[name] = !isKubeProxys(name)
	}
	for _, l := range t.rules {
		rules[l.chain] = append(rules[l.chain], l)
	}
	var keep func(chain string)
	keep = func(chain string) {
		if kept[chain] || !isKubeProxys(chain) {
			return
		}
		kept[chain] = true
		for _, l := range rules[chain] {
			keep(target(l.rule))
		}
		if chain == "KUBE-MARK-MASQ" {
			keep("KUBE-POSTROUTING")
		}
	}
	for _, l := range t.rules {
		if to := target(l.rule); foreign[l.chain] || to == "KUBE-MARK-MASQ" && !isKubeProxys(l.chain) {
			keep(to)
		}
	}
	return kept
}

// nftTable returns the removal of the table of kube-proxy's nftables mode, or none.
func nftTable(ctx context.Context, f inet.Family) ([]Removal, error) {
	names, err := nfTables(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nft's tables: %w", err)
	}
	name, family := "ip", nftables.TableFamilyIPv4
	if f == inet.IPv6 {
		name, family = "ip6", nftables.TableFamilyIPv6
	}
	if !slices.Contains(names, name+" "+kubeProxyTable) {
		return nil, nil
	}
	return []Removal{{
		Name: fmt.Sprintf("table %s of nftables (%v)", kubeProxyTable, f),
		do: func(context.Context) error {
			c := new(nftables.Conn)
			c.DelTable(&nftables.Table{Name: kubeProxyTable, Family: family})
			return c.Flush()
		},
	}}, nil
}
