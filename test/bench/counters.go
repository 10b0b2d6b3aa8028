package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Counters are the chains of iptables-save -c by table and name, such as "nat OUTPUT".
type counters map[string]*chainCount

// A chainCount is what a chain and its rules counted.
type chainCount struct {
	builtIn bool
	policy  float64 // packets for which the kernel's own chain had no rule that decides
	rules   []ruleCount
}

// A ruleCount is a rule, and how many packets all its matches matched.
type ruleCount struct {
	packets float64
	words   []string
}

func saveCounters() (counters, error) {
	text, err := exec.Command("iptables-save", "-c").Output()
	if err != nil {
		return nil, fmt.Errorf("iptables-save: %w", err)
	}
	return parseCounters(string(text))
}

func parseCounters(text string) (counters, error) {
	all, table := counters{}, ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && words[0][0] == '*':
			table = words[0][1:] + " "
		case len(words) == 3 && words[0][0] == ':':
			n, err := packetsOf(words[2])
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			all[table+words[0][1:]] = &chainCount{builtIn: words[1] != "-", policy: n}
		case len(words) > 2 && words[0][0] == '[':
			n, err := packetsOf(words[0])
			chain := all[table+words[2]]
			if err != nil || chain == nil {
				return nil, fmt.Errorf("a rule of no chain, or without a count: %q", line)
			}
			chain.rules = append(chain.rules, ruleCount{n, words[3:]})
		}
	}
	return all, nil
}

// packetsOf reads "[packets:bytes]".
func packetsOf(count string) (float64, error) {
	packets, _, _ := strings.Cut(strings.Trim(count, "[]"), ":")
	return strconv.ParseFloat(packets, 64)
}

// since returns what was counted since before, when the rules were the same.
func (c counters) since(before counters) counters {
	out := counters{}
	for name, chain := range c {
		was := before[name]
		now := &chainCount{builtIn: chain.builtIn, policy: chain.policy - was.policy}
		for i, r := range chain.rules {
			now.rules = append(now.rules, ruleCount{r.packets - was.rules[i].packets, r.words})
		}
		out[name] = now
	}
	return out
}

// target returns a rule's target, or "".
func (r ruleCount) target() string {
	for i, w := range r.words[:max(0, len(r.words)-1)] {
		if w == "-j" || w == "-g" {
			return r.words[i+1]
		}
	}
	return ""
}

// sets returns how many sets the rule's matches ask, and its target.
func (r ruleCount) sets() (matches, targets float64) {
	for _, w := range r.words {
		switch w {
		case "--match-set":
			matches++
		case "--map-set":
			targets++
		}
	}
	return matches, targets
}

// verdicts end a packet's way through a table.
var verdicts = map[string]bool{
	"ACCEPT": true, "DROP": true, "REJECT": true, "DNAT": true, "SNAT": true, "MASQUERADE": true, "REDIRECT": true, "NETMAP": true,
}

// evaluated returns how many rules were evaluated, by what was counted, and how many sets were asked at most: those that a
// rule asks behind another match that failed are among them.
func (c counters) evaluated() (rules, sets float64) {
	e := evaluation{c, map[string]float64{}, map[string]float64{}}
	for name, chain := range c {
		table, _, _ := strings.Cut(name, " ")
		for _, r := range chain.rules {
			if child := table + " " + r.target(); c[child] != nil {
				e.entered[child] += r.packets
			}
		}
	}
	for name, chain := range c {
		table, _, _ := strings.Cut(name, " ")
		arriving := e.entered[name]
		if chain.builtIn {
			arriving = chain.policy + e.ended(name)
		}
		for _, r := range chain.rules {
			matches, targets := r.sets()
			rules += arriving
			sets += arriving*matches + r.packets*targets
			if arriving -= e.taken(table, r); r.target() == "RETURN" {
				arriving -= r.packets
			}
		}
	}
	return rules, sets
}

type evaluation struct {
	counters
	entered map[string]float64 // by chain: packets that a rule sent there
	decided map[string]float64 // by chain: packets that found a verdict there or further down
}

// ended returns how many packets found a verdict in a chain.
func (e evaluation) ended(name string) float64 {
	if known, ok := e.decided[name]; ok {
		return known
	}
	table, _, _ := strings.Cut(name, " ")
	total := 0.0
	for _, r := range e.counters[name].rules {
		total += e.taken(table, r)
	}
	e.decided[name] = total
	return total
}

// taken returns how many packets found a verdict by a rule: of those that it sent to a chain, as many as of all there.
func (e evaluation) taken(table string, r ruleCount) float64 {
	child := table + " " + r.target()
	switch {
	case verdicts[r.target()]:
		return r.packets
	case e.counters[child] == nil || e.entered[child] == 0:
		return 0
	}
	return r.packets * e.ended(child) / e.entered[child]
}
