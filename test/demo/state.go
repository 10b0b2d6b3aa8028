package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// counts is how many iptables rules are kube-ipvs's, for IPv4 and IPv6.
type counts [2]int

// String returns the numbers.
func (c counts) String() string { return fmt.Sprintf("%d and %d", c[0], c[1]) }

// countRules counts the rules that are in a chain of kube-ipvs, or lead to one.
func countRules(ctx context.Context) (counts, error) {
	var out counts
	for i, save := range []string{"iptables-save", "ip6tables-save"} {
		text, err := shell(ctx, save)
		if err != nil {
			return out, err
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "-A ") && strings.Contains(line, "KIPVS-") {
				out[i]++
			}
		}
	}
	return out, nil
}

// A state is what the kernel holds beside the table of IPVS.
type state struct {
	rules   counts
	sets    []string // those with entries: names, with how many entries each has
	ipRules []string
}

func readState(ctx context.Context) (s state, err error) {
	if s.rules, err = countRules(ctx); err != nil {
		return s, err
	}
	sets, err := shell(ctx, "ipset list -t")
	if err != nil {
		return s, err
	}
	name := ""
	for line := range strings.Lines(sets) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch field {
		case "Name":
			name = value
		case "Number of entries":
			if value != "0" {
				s.sets = append(s.sets, name+" "+value)
			}
		}
	}
	rules, err := shell(ctx, "ip rule")
	s.ipRules = strings.Split(strings.TrimSpace(rules), "\n")
	return s, err
}

// writeState writes all that the kernel holds to a file, as the usual programs print it.
func writeState(ctx context.Context, file string) error {
	var all strings.Builder
	for _, command := range []string{
		"ipvsadm -Ln", "iptables-save", "ip6tables-save", "ipset list", "ipset list -t", "ip rule", "ip -6 rule",
		"ip route show table all dev kube-ipvs0", "ip -6 route show table all dev kube-ipvs0", "ip address show dev kube-ipvs0",
	} {
		out, err := shell(ctx, command)
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "$ %s\n%s\n", command, out)
	}
	return os.WriteFile(file, []byte(all.String()), 0o644)
}
