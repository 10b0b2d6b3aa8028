package iptables

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Ours is what of ours stands in a family, as iptables-save prints it: the chains of ours, their rules, and the rules in
// other chains that lead to them.
type ours []line

type line struct {
	table string
	chain string // the chain that is declared, or that the rule is in
	rule  string // "" where the line declares the chain
}

// tables are those that we have chains in.
var tables = []string{"raw", "mangle", "nat", "filter"}

// unread is what iptables-nft-save prints instead of a table in which somebody made rules that only nft knows.
var unread = regexp.MustCompile("^# Table `(.*)' is incompatible")

// parse picks what is ours from the output of iptables-save. It is an error if a table of ours is left out: jumps that
// cannot be seen would be put in again and again.
func parse(saved string) (ours, error) {
	var out ours
	table := ""
	for text := range strings.Lines(saved) {
		text = strings.TrimRight(text, "\n")
		if m := unread.FindStringSubmatch(text); m != nil && slices.Contains(tables, m[1]) {
			return nil, fmt.Errorf("iptables cannot read table %s: somebody made rules in it that only nft knows", m[1])
		}
		switch {
		case strings.HasPrefix(text, "*"):
			table = text[1:]
		case strings.HasPrefix(text, ":"+Prefix):
			name, _, _ := strings.Cut(text[1:], " ")
			out = append(out, line{table: table, chain: name})
		case strings.HasPrefix(text, "-A "):
			chain, rule, _ := strings.Cut(text[len("-A "):], " ")
			if strings.HasPrefix(chain, Prefix) || leadsToUs(rule) {
				out = append(out, line{table, chain, rule})
			}
		}
	}
	return out, nil
}

// quoted is an argument with blanks in it, such as a comment, which may say anything.
var quoted = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)

// leadsToUs says that a rule's target is a chain of ours.
func leadsToUs(rule string) bool {
	fields := strings.Fields(quoted.ReplaceAllString(rule, `""`))
	for i, f := range fields[:max(len(fields)-1, 0)] {
		if (f == "-j" || f == "-g") && strings.HasPrefix(fields[i+1], Prefix) {
			return true
		}
	}
	return false
}

// place returns where in its chain a jump belongs, 1 for the first place, and whether it stands elsewhere, by the output of
// iptables-save. Only a jump behind others' (Behind) must keep its place: directly behind the last of them, since others put
// rules before ours that drop packets which they cannot know.
func (j Jump) place(saved string) (place int, isMisplaced bool) {
	table, others, before := "", 0, -1
	place = 1
	for text := range strings.Lines(saved) {
		text = strings.TrimRight(text, "\n")
		if strings.HasPrefix(text, "*") {
			table = text[1:]
		}
		rule, ok := strings.CutPrefix(text, "-A "+j.From+" ")
		if table != j.Table || !ok {
			continue
		}
		fields := strings.Fields(quoted.ReplaceAllString(rule, `""`))
		if fields[len(fields)-1] == j.To {
			before = others
			continue
		}
		others++
		if slices.Contains(j.Behind, fields[len(fields)-1]) {
			place = others + 1
		}
	}
	return place, j.Behind != nil && before >= 0 && before != place-1
}

// String returns the lines, to be compared.
func (o ours) String() string {
	var b strings.Builder
	for _, l := range o {
		fmt.Fprintf(&b, "%s %s %s\n", l.table, l.chain, l.rule)
	}
	return b.String()
}

// has says that a jump is there.
func (o ours) has(j Jump) bool { return slices.Contains(o, line{j.Table, j.From, "-j " + j.To}) }

// lacks returns what of a ruleset is not there, or nil. How a rule is printed is the program's affair, so rules are counted.
func (o ours) lacks(r Ruleset) error {
	for _, j := range r.Jumps {
		if !o.has(j) {
			return fmt.Errorf("gone as soon as it was made: %v", j)
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
			return fmt.Errorf("chain %s of table %s had %d rules as soon as it was made with %d", c.Name, c.Table, rules, len(c.Rules))
		}
	}
	return nil
}

// without leaves out what a ruleset has: chains with their rules, and jumps.
func (o ours) without(r Ruleset) ours {
	return slices.DeleteFunc(slices.Clone(o), func(l line) bool {
		if slices.ContainsFunc(r.Chains, func(c Chain) bool { return c.Table == l.table && c.Name == l.chain }) {
			return true
		}
		return slices.ContainsFunc(r.Jumps, func(j Jump) bool { return l == line{j.Table, j.From, "-j " + j.To} })
	})
}

// removal returns what iptables-restore --noflush needs to remove the lines, or "" if there are none: a table at a time,
// the jumps, then the emptied chains.
func (o ours) removal() string {
	var b strings.Builder
	for start := 0; start < len(o); {
		table := o[start].table
		end := start
		for end < len(o) && o[end].table == table {
			end++
		}
		removeFrom(&b, table, o[start:end])
		start = end
	}
	return b.String()
}

func removeFrom(b *strings.Builder, table string, lines ours) {
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

// explain returns a program's complaint, with the line of its input that it names.
func explain(complaint, stdin string) string {
	complaint = strings.TrimSpace(complaint)
	if complaint == "" {
		return ""
	}
	const most = 300 // nft complains about every line that follows
	complaint = ": " + strings.ReplaceAll(complaint, "\n", "; ")
	if len(complaint) > most {
		complaint = strings.ToValidUTF8(complaint[:most], "") + "…"
	}
	if m := atLine.FindStringSubmatch(complaint); m != nil {
		lines := strings.Split(stdin, "\n")
		if n, err := strconv.Atoi(m[1]); err == nil && n >= 1 && n <= len(lines) {
			complaint += fmt.Sprintf(" (%s)", lines[n-1])
		}
	}
	return complaint
}
