// Package iptables keeps owned chains in the kernel's packet filter. A Ruleset is a constant: whole chains, and the jumps
// to them from the built-in ones. It is installed in one transaction a table and read back to detect foreign changes.
package iptables

import (
	"context"
	"fmt"
	"strings"

	"kube-ipvs/internal/inet"
)

// Prefix begins the name of every owned chain, and of no other chain.
const Prefix = "KIPVS-"

// A Chain is an owned chain with all of its rules.
type Chain struct {
	Table string   // "raw", "mangle", "nat" or "filter"
	Name  string   // begins with Prefix, at most 28 bytes
	Rules []string // each in the syntax of iptables-restore, without "-A NAME"
}

// A Jump is a rule in a built-in chain that leads packets to an owned chain. It is inserted first, or last, and is left
// wherever it is found, but for one with Behind: that is put back when others insert rules before it.
type Jump struct {
	Table, From, To string
	Match           string   // which packets, as iptables-save prints it; empty: all
	Last            bool     // behind all foreign rules
	Behind          []string // first, but behind jumps to these foreign chains; not nil: it must keep this place
}

// String returns the equivalent iptables command.
func (j Jump) String() string { return fmt.Sprintf("iptables -t %s %s", j.Table, j.rule(1)) }

// spec returns the jump as iptables-save prints it behind its chain.
func (j Jump) spec() string { return strings.TrimSpace(j.Match + " -j " + j.To) }

// rule returns the jump in the syntax of iptables-restore, for a place in the chain, 1 for the first.
func (j Jump) rule(place int) string {
	switch {
	case j.Last:
		return fmt.Sprintf("-A %s %s", j.From, j.spec())
	case place > 1:
		return fmt.Sprintf("-I %s %d %s", j.From, place, j.spec())
	}
	return fmt.Sprintf("-I %s %s", j.From, j.spec())
}

// A Ruleset has all owned rules of one family.
type Ruleset struct {
	Family inet.Family
	Chains []Chain
	Jumps  []Jump
}

// Tables returns the names of the tables that the ruleset has chains or jumps in, each once, in order of appearance.
func (r Ruleset) Tables() []string {
	var out []string
	seen := map[string]bool{}
	add := func(table string) {
		if !seen[table] {
			seen[table] = true
			out = append(out, table)
		}
	}
	for _, c := range r.Chains {
		add(c.Table)
	}
	for _, j := range r.Jumps {
		add(j.Table)
	}
	return out
}

// String returns the ruleset as input of iptables-restore --noflush, with all of its jumps.
func (r Ruleset) String() string { return r.restore(r.Jumps, "") }

// restore returns the chains and the missing jumps as input of iptables-restore --noflush: it creates each chain if
// necessary, empties and fills it, and inserts the jumps, all in one transaction a table. saved is the output of
// iptables-save, for the places of jumps.
func (r Ruleset) restore(missing []Jump, saved string) string {
	var b strings.Builder
	for _, table := range r.Tables() {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, c := range r.Chains {
			if c.Table == table {
				fmt.Fprintf(&b, ":%s - [0:0]\n", c.Name)
			}
		}
		for _, c := range r.Chains {
			for _, rule := range c.Rules {
				if c.Table == table {
					fmt.Fprintf(&b, "-A %s %s\n", c.Name, rule)
				}
			}
		}
		for _, j := range missing {
			if j.Table != table {
				continue
			}
			place, isMisplaced := j.place(saved)
			if isMisplaced {
				fmt.Fprintf(&b, "-D %s %s\n", j.From, j.spec())
			}
			fmt.Fprintln(&b, j.rule(place))
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// Count returns the number of rules of the ruleset, jumps included.
func (r Ruleset) Count() int {
	n := len(r.Jumps)
	for _, c := range r.Chains {
		n += len(c.Rules)
	}
	return n
}

// A Fingerprint is a value that differs between two states of a family's rules.
type Fingerprint string

// A Kernel keeps rulesets, one in each family.
type Kernel interface {
	// Ensure installs the ruleset. It removes owned chains that the ruleset lacks, and leaves all foreign ones alone.
	// The sets of its rules must exist.
	Ensure(context.Context, Ruleset) error

	// InSync reports whether the last ensured ruleset of the family is still as Ensure left it. After an error the
	// result is meaningless.
	InSync(context.Context, inet.Family) (bool, error)

	// Repairs returns the commands that would make the family's rules as Ensure makes them; none: they are so already. It
	// changes nothing.
	Repairs(context.Context, Ruleset) ([]Restore, error)

	// Fingerprint returns a value that differs whenever rules of the family, owned or foreign, may have changed. It is
	// cheap and starts no process. A kernel without fingerprints always returns the same one.
	Fingerprint(context.Context, inet.Family) (Fingerprint, error)

	// Remove removes all owned chains of the family and the jumps to them. It is safe to repeat.
	Remove(context.Context, inet.Family) error

	// KubeProxy returns the steps that remove kube-proxy's rules of the family, in their order; none if it has no rules.
	KubeProxy(context.Context, inet.Family) ([]Removal, error)

	// KubeProxyServes reports whether the rules of a kube-proxy that has made its first sync are in place. In iptables and ipvs mode
	// it makes chains and jumps before, but writes the rules of KUBE-SERVICES together with all others.
	KubeProxyServes(context.Context, inet.Family) (bool, error)

	// SawKubeProxy reports whether Ensure, KubeProxy or InSync, when last called, saw rules of kube-proxy. It reads nothing.
	SawKubeProxy(inet.Family) bool
}
