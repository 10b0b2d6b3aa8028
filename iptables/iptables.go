// Package iptables keeps chains of ours in the kernel's packet filter. A Ruleset is a constant: whole chains, and the
// jumps that lead to them from the built-in ones. It is put in place in one go, and what stands is read back to see
// whether somebody changed it.
package iptables

import (
	"context"
	"fmt"
	"strings"
)

// A Family is an address family of the packet filter.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns the family's name.
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// Prefix begins the name of every chain of ours; a chain is ours by nothing else.
const Prefix = "KIPVS-"

// A Chain is a chain of ours with all of its rules.
type Chain struct {
	Table string   // "raw", "mangle", "nat" or "filter"
	Name  string   // begins with Prefix, at most 28 bytes
	Rules []string // each as iptables-restore takes it, without "-A NAME"
}

// A Jump is a rule in a built-in chain that leads all packets to a chain of ours. It is put in first, or last, and is left
// wherever it is found, but for one with Behind: that is put back when others put rules before it.
type Jump struct {
	Table, From, To string
	Last            bool     // behind all that others decide
	Behind          []string // first, but behind jumps to these chains of others; not nil: it must keep this place
}

// String returns the jump as an operator would type it.
func (j Jump) String() string { return fmt.Sprintf("iptables -t %s %s", j.Table, j.rule(1)) }

// rule returns the jump as iptables-restore takes it, with its place in the chain, 1 for the first.
func (j Jump) rule(place int) string {
	switch {
	case j.Last:
		return fmt.Sprintf("-A %s -j %s", j.From, j.To)
	case place > 1:
		return fmt.Sprintf("-I %s %d -j %s", j.From, place, j.To)
	}
	return fmt.Sprintf("-I %s -j %s", j.From, j.To)
}

// A Ruleset is all that stands in one family.
type Ruleset struct {
	Family Family
	Chains []Chain
	Jumps  []Jump
}

// Tables returns the names of the tables that the ruleset has chains in, each once, in order of appearance.
func (r Ruleset) Tables() []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range r.Chains {
		if !seen[c.Table] {
			seen[c.Table] = true
			out = append(out, c.Table)
		}
	}
	return out
}

// String returns the ruleset as iptables-restore --noflush takes it, with all of its jumps.
func (r Ruleset) String() string { return r.restore(r.Jumps, "") }

// restore returns the chains as iptables-restore --noflush takes them, with the jumps that are missing: each chain is made
// if it is not there, emptied and filled, and the jumps put in, a table at a time and all or nothing. Saved is the output of
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
				fmt.Fprintf(&b, "-D %s -j %s\n", j.From, j.To)
			}
			fmt.Fprintln(&b, j.rule(place))
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// Count returns how many rules the ruleset has, jumps included.
func (r Ruleset) Count() int {
	n := len(r.Jumps)
	for _, c := range r.Chains {
		n += len(c.Rules)
	}
	return n
}

// A Trace stands for a state of a family's rules.
type Trace string

// A Kernel keeps rulesets, one in each family.
type Kernel interface {
	// Ensure makes the ruleset stand as it is given. What it does not name is left alone, but for chains of ours that
	// it no longer has: they are removed. The sets that rules refer to must be there.
	Ensure(context.Context, Ruleset) error

	// Stands says whether all of the last ensured ruleset of the family is still as Ensure left it. After an error
	// its answer means nothing.
	Stands(context.Context, Family) (bool, error)

	// Trace returns a value that is another whenever rules of the family may have changed, by whomever. It is cheap and
	// starts no process; where there is no such value it is the same always.
	Trace(context.Context, Family) (Trace, error)

	// Remove removes all chains of ours in the family and the jumps to them. That there are none is success.
	Remove(context.Context, Family) error
}
