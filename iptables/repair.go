package iptables

import (
	"context"
	"slices"
	"strings"
)

// A Restore is one call of iptables-restore, which keeps all that its input does not name.
type Restore struct {
	Command string // such as "iptables-nft-restore"
	Input   string
}

// String returns the command as an operator would type it.
func (r Restore) String() string {
	return r.Command + " --noflush <<EOF\n" + r.Input + "EOF"
}

// Repairs implements Kernel. Only chains that differ are in the input, which empties and fills each, and only jumps that are missing.
func (p *Commands) Repairs(ctx context.Context, r Ruleset) ([]Restore, error) {
	saved, err := p.save(ctx, r.Family)
	if err != nil {
		return nil, err
	}
	found, err := parse(saved)
	if err != nil {
		return nil, err
	}
	var out []Restore
	add := func(p *Commands, input string) {
		if input != "" {
			out = append(out, Restore{p.command(r.Family, "-restore"), input})
		}
	}
	differ := Ruleset{Family: r.Family, Chains: found.differing(r.Chains), Jumps: found.missing(r.Jumps, saved)}
	add(p, differ.restore(differ.Jumps, saved))
	add(p, found.without(r).removal())
	other, err := p.other().read(ctx, r.Family)
	if err != nil { // the kernel or the node lacks this backend
		return out, ctx.Err()
	}
	add(p.other(), other.removal())
	return out, nil
}

// differing returns the chains that do not exist with these rules.
func (o owned) differing(chains []Chain) []Chain {
	var out []Chain
	for _, c := range chains {
		declared, rules := false, []string(nil)
		for _, l := range o {
			if l.table != c.Table || l.chain != c.Name {
				continue
			}
			if l.rule == "" {
				declared = true
			} else {
				rules = append(rules, l.rule)
			}
		}
		if !declared || !slices.EqualFunc(c.Rules, rules, isSaved) {
			out = append(out, c)
		}
	}
	return out
}

// everywhere matches a source of all addresses, which iptables-save leaves out.
var everywhere = strings.NewReplacer("-s 0.0.0.0/0 ", "", "-s ::/0 ", "")

// isSaved reports whether a rule of a Ruleset is what iptables-save prints as saved. It prints rules as they are written here, but
// completes a REJECT without a type.
func isSaved(rule, saved string) bool {
	rule = everywhere.Replace(rule)
	rest, found := strings.CutPrefix(saved, rule)
	return found && (rest == "" || strings.HasSuffix(rule, "-j REJECT") && strings.HasPrefix(rest, " --reject-with icmp") && strings.HasSuffix(rest, "-port-unreachable"))
}
