package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
)

// A rule is a line of iptables-save.
type rule struct {
	iptables.Rule
	words []string // after the chain
}

// rulesOf returns all rules of a backend, of both families.
func rulesOf(saved []iptables.Saved, backend string) []rule {
	var out []rule
	for _, s := range saved {
		if s.Backend != backend {
			continue
		}
		for _, r := range s.Rules() {
			out = append(out, rule{r, strings.Fields(r.Text)})
		}
	}
	return out
}

// isOurs reports whether a rule is of kube-ipvs.
func (r rule) isOurs() bool {
	return strings.HasPrefix(r.Chain, iptables.Prefix) || strings.HasPrefix(r.Target(), iptables.Prefix)
}

func lookBackends(ctx context.Context, n *Node, _ Wanted) (iptables.Survey, error) {
	return n.Survey(ctx)
}

func judgeBackends(s iptables.Survey, _ Wanted) []Finding {
	if s.Used == "" {
		return []Finding{{Severity: Error, Found: fmt.Sprint(s.Broken), Do: "install the package iptables, of version 1.8 or later"}}
	}
	other := map[string]string{"nft": "legacy", "legacy": "nft"}[s.Used]
	var out []Finding
	for _, saved := range s.Saved {
		if saved.Backend != s.Used {
			continue
		}
		if saved.Err != nil && saved.Family == inet.IPv6 {
			out = append(out, Finding{Severity: Note, Found: fmt.Sprintf("ip6tables cannot be used, so IPv6 is not served: %v", saved.Err)})
		}
		for _, table := range saved.Unreadable() {
			out = append(out, Finding{Severity: Error, Found: fmt.Sprintf("somebody has rules in %s table %s that only nft can express: iptables can neither read nor change it", saved.Family, table),
				Do: "nft list table " + map[inet.Family]string{inet.IPv4: "ip", inet.IPv6: "ip6"}[saved.Family] + " " + table + "; who wrote these rules should use a table of another name"})
		}
	}
	foreign, elsewhere := others(rulesOf(s.Saved, s.Used)), others(rulesOf(s.Saved, other))
	if ours := len(rulesOf(s.Saved, other)) - len(elsewhere); ours > 0 {
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("%s of kube-ipvs in %s, which it does not use", many(ours, "rule", "rules"), other), Do: "kube-ipvs removes them when it starts"})
	}
	switch {
	case len(elsewhere) > 0 && len(foreign) > 0:
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("both backends are in use: %s by kube-ipvs and %s of others, %s by %s of others (%s); each packet passes both, and who looks into one does not see the other",
			s.Used, many(len(foreign), "rule", "rules"), other, many(len(elsewhere), "rule", "rules"), chains(elsewhere)), Do: "let all use one: update-alternatives --config iptables, and restart who wrote the rules in " + other})
	case len(elsewhere) > 0:
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("kube-ipvs uses %s, all others %s (%s)", s.Used, other, chains(elsewhere)),
			Do: "make " + other + " the node's default: update-alternatives --set iptables /usr/sbin/iptables-" + other + "; kubelet 1.26 and later tells kube-ipvs which it uses"})
	}
	return orOK(out, "backend "+s.Used+", the only one in use")
}

// many returns a number with its noun.
func many(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

// others returns the rules that are not of kube-ipvs.
func others(rules []rule) []rule {
	return slices.DeleteFunc(slices.Clone(rules), rule.isOurs)
}

// chains names the first few chains of rules.
func chains(rules []rule) string {
	const most = 4
	var names []string
	for _, r := range rules {
		if name := r.Table + " " + r.Chain; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return strings.Join(names, ", ")
}

// A mask is a use of the firewall mark, or of the connection's.
type mask struct {
	bits   uint32
	writes bool
}

// everyBit is the mask of rules that are for whole marks.
const everyBit = ^uint32(0)

// masks returns the bits of marks that a rule reads or writes.
func (r rule) masks() []mask {
	var out []mask
	for i := 0; i+1 < len(r.words); i++ {
		value := r.words[i+1]
		switch r.words[i] {
		case "--mark":
			_, m := split(value)
			out = append(out, mask{bits: m})
		case "--set-xmark", "--set-mark":
			v, m := split(value)
			out = append(out, mask{bits: v | m, writes: true})
		case "--nfmask", "--ctmask", "--mask":
			v, _ := split(value)
			out = append(out, mask{bits: v, writes: true})
		}
	}
	return out
}

// split splits a mark into value and mask, which is left out if it is whole.
func split(text string) (value, mask uint32) {
	v, m, isMasked := strings.Cut(text, "/")
	parse := func(s string) uint32 {
		n, _ := strconv.ParseUint(s, 0, 32) // 0: no number, no bit
		return uint32(n)
	}
	if !isMasked {
		return parse(v), everyBit
	}
	return parse(v), parse(m)
}

type markFacts struct {
	rules   []rule // in iptables
	routing []RoutingRule
}

func lookMarks(ctx context.Context, n *Node, _ Wanted) (markFacts, error) {
	s, err := n.Survey(ctx)
	if err != nil {
		return markFacts{}, err
	}
	routing, err := readRouting()
	return markFacts{slices.Concat(rulesOf(s.Saved, "nft"), rulesOf(s.Saved, "legacy")), routing.rules}, err
}

// judgeMarks finds others that use a bit of kube-ipvs for themselves. Rules for whole marks are expected: kube-ipvs keeps its own bits in
// the connection's mark, too. Rules of kube-proxy are for the check of proxies.
func judgeMarks(f markFacts, w Wanted) []Finding {
	uses, whole := map[string]uint32{}, map[string]bool{}
	note := func(who string, m mask) {
		switch {
		case m.bits == everyBit:
			whole[who] = true
		case m.bits&w.Bits != 0:
			uses[who] |= m.bits & w.Bits
		}
	}
	for _, r := range f.rules {
		if r.isOurs() || strings.HasPrefix(r.Chain, "KUBE-") || strings.HasPrefix(r.Target(), "KUBE-") {
			continue
		}
		for _, m := range r.masks() {
			note("iptables chain "+r.Chain+" of table "+r.Table, m)
		}
	}
	for _, r := range f.routing {
		if r.Mask != 0 && !r.Ours {
			note("routing rule "+strconv.Itoa(r.Priority), mask{bits: r.Mask})
		}
	}
	var out []Finding
	for _, who := range slices.Sorted(maps.Keys(uses)) {
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("%s uses %#x of the mark, as kube-ipvs does", who, uses[who]),
			Do: "choose other bits for kube-ipvs with --iptables-masquerade-bit (the other two are in the same half of the mark), or for the other agent"})
	}
	if len(out) == 0 {
		out = append(out, Finding{Severity: OK, Found: fmt.Sprintf("nobody else uses %#x", w.Bits)})
	}
	if len(whole) > 0 {
		out = append(out, Finding{Severity: Note, Found: "reads or writes whole marks: " + strings.Join(slices.Sorted(maps.Keys(whole)), ", ") + "; kube-ipvs keeps its bits in the connection's mark, too"})
	}
	return out
}
