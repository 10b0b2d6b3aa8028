package iptables

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// owned has the owned rules of a family, as iptables-save prints them: owned chains, their rules, and the jumps to them
// from other chains.
type owned []line

type line struct {
	table string
	chain string // of the declaration or the rule
	rule  string // "" in the chain's declaration
}

// tables may have owned chains.
var tables = []string{"raw", "mangle", "nat", "filter"}

// incompatible matches the output of iptables-nft-save for a table with rules that only nft can express.
var incompatible = regexp.MustCompile("^# Table `(.*)' is incompatible")

// linesOf yields the output of iptables-save: the declarations of chains that users made, which alone have no policy, and all rules.
func linesOf(saved string) iter.Seq[line] {
	return func(yield func(line) bool) {
		table := ""
		for text := range strings.Lines(saved) {
			text = strings.TrimRight(text, "\n")
			first, rest, _ := strings.Cut(text, " ")
			switch {
			case strings.HasPrefix(text, "*"):
				table = text[1:]
			case strings.HasPrefix(text, ":") && strings.HasPrefix(rest, "-"):
				if !yield(line{table: table, chain: first[1:]}) {
					return
				}
			case first == "-A":
				chain, rule, _ := strings.Cut(rest, " ")
				if !yield(line{table, chain, rule}) {
					return
				}
			}
		}
	}
}

// unreadable returns the tables with rules that only nft can express, given the output of iptables-save.
func unreadable(saved string) (out []string) {
	for text := range strings.Lines(saved) {
		if !strings.HasPrefix(text, "#") { // most lines, which the expression need not see
			continue
		}
		if m := incompatible.FindStringSubmatch(text); m != nil && slices.Contains(tables, m[1]) {
			out = append(out, m[1])
		}
	}
	return out
}

// parse picks the owned rules from the output of iptables-save. An unreadable table is an error: its jumps would be
// inserted again and again.
func parse(saved string) (owned, error) {
	if names := unreadable(saved); names != nil {
		return nil, fmt.Errorf("iptables cannot read table %s: it has foreign rules that only nft can express", names[0])
	}
	var out owned
	for l := range linesOf(saved) {
		// The search first: most rules of a node are foreign, and do not name an owned chain at all.
		if strings.HasPrefix(l.chain, Prefix) || strings.Contains(l.rule, Prefix) && jumpsToOwned(l.rule) {
			out = append(out, l)
		}
	}
	return out, nil
}

// quoted matches an argument with blanks, such as a comment, whose text may look like other arguments.
var quoted = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)

// jumpsToOwned reports whether a rule's target is an owned chain.
func jumpsToOwned(rule string) bool { return strings.HasPrefix(target(rule), Prefix) }

// target returns the chain or extension that a rule leads to, or "".
func target(rule string) string {
	if strings.Contains(rule, `"`) {
		rule = quoted.ReplaceAllString(rule, `""`)
	}
	fields := strings.Fields(rule)
	for i, f := range fields[:max(len(fields)-1, 0)] {
		if f == "-j" || f == "-g" {
			return fields[i+1]
		}
	}
	return ""
}

// place returns a jump's desired place in its chain, 1 for the first, and whether it is elsewhere, given the output of
// iptables-save. Only a jump with Behind must keep its place, directly behind the last of those jumps: foreign rules
// inserted before it may drop packets that they do not know.
func (j Jump) place(saved string) (place int, isMisplaced bool) {
	if j.Behind == nil {
		return 1, false
	}
	others, before := 0, -1
	place = 1
	for l := range linesOf(saved) {
		if l.table != j.Table || l.chain != j.From || l.rule == "" {
			continue
		}
		to := target(l.rule)
		if to == j.To {
			before = others
			continue
		}
		others++
		if slices.Contains(j.Behind, to) {
			place = others + 1
		}
	}
	return place, before >= 0 && before != place-1
}

// String returns the lines in a form for comparisons.
func (o owned) String() string {
	var b strings.Builder
	for _, l := range o {
		fmt.Fprintf(&b, "%s %s %s\n", l.table, l.chain, l.rule)
	}
	return b.String()
}

// has reports whether a jump exists.
func (o owned) has(j Jump) bool { return slices.Contains(o, line{j.Table, j.From, j.spec()}) }

// missing returns the jumps that do not exist, or not in their place. Saved is the output of iptables-save.
func (o owned) missing(jumps []Jump, saved string) []Jump {
	return slices.DeleteFunc(slices.Clone(jumps), func(j Jump) bool {
		_, isMisplaced := j.place(saved)
		return o.has(j) && !isMisplaced
	})
}

// lacks returns an error that names a missing part of a ruleset, or nil. It counts rules, since iptables-save may print a
// rule in another form.
func (o owned) lacks(r Ruleset) error {
	for _, j := range r.Jumps {
		if !o.has(j) {
			return fmt.Errorf("missing right after it was made: %v", j)
		}
	}
	for _, c := range r.Chains {
		rules := 0
		for _, l := range o {
			if l.table == c.Table && l.chain == c.Name && l.rule != "" {
				rules++
			}
		}
		if rules != len(c.Rules) {
			return fmt.Errorf("chain %s of table %s had %d rules right after it was made with %d", c.Name, c.Table, rules, len(c.Rules))
		}
	}
	return nil
}

// without leaves out the chains, with their rules, and the jumps of a ruleset.
func (o owned) without(r Ruleset) owned {
	return slices.DeleteFunc(slices.Clone(o), func(l line) bool {
		if slices.ContainsFunc(r.Chains, func(c Chain) bool { return c.Table == l.table && c.Name == l.chain }) {
			return true
		}
		return slices.ContainsFunc(r.Jumps, func(j Jump) bool { return l == line{j.Table, j.From, j.spec()} })
	})
}

// removalOrder has nat first: as long as it has rules that keep a packet from another proxy's, the packet needs the marks of mangle.
var removalOrder = []string{"nat", "raw", "mangle", "filter"}

// removal returns the input of iptables-restore --noflush that removes the lines, or "" if there are none: a table at a
// time, the jumps, then the emptied chains.
func (o owned) removal() string {
	var b strings.Builder
	for _, table := range removalOrder {
		lines := slices.DeleteFunc(slices.Clone(o), func(l line) bool { return l.table != table })
		if len(lines) > 0 {
			removeFrom(&b, table, lines)
		}
	}
	return b.String()
}

func removeFrom(b *strings.Builder, table string, lines owned) {
	fmt.Fprintf(b, "*%s\n", table)
	for _, l := range lines {
		if l.rule == "" {
			fmt.Fprintf(b, ":%s - [0:0]\n", l.chain)
		}
	}
	for _, l := range lines {
		if !strings.HasPrefix(l.chain, Prefix) {
			fmt.Fprintf(b, "-D %s %s\n", l.chain, l.rule)
		}
	}
	for _, l := range lines {
		if l.rule == "" {
			fmt.Fprintf(b, "-X %s\n", l.chain)
		}
	}
	b.WriteString("COMMIT\n")
}

var atLine = regexp.MustCompile(`line:? (\d+)`)

// explain returns a command's error output, followed by the line of its input that the output refers to.
func explain(stderr, stdin string) string {
	stderr = strings.TrimSpace(stderr)
	if stderr == "" {
		return ""
	}
	const maxLen = 300 // nft complains about every later line too
	text := ": " + strings.ReplaceAll(stderr, "\n", "; ")
	if len(text) > maxLen {
		text = strings.ToValidUTF8(text[:maxLen], "") + "…"
	}
	if m := atLine.FindStringSubmatch(text); m != nil {
		lines := strings.Split(stdin, "\n")
		if n, err := strconv.Atoi(m[1]); err == nil && n >= 1 && n <= len(lines) {
			text += fmt.Sprintf(" (%s)", lines[n-1])
		}
	}
	return text
}
