//go:build kernel

package packet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kube-ipvs/test/lab"
)

// A change is one thing that others do to the node, and can take back.
type change interface {
	do(*world) error
	undo(*world) error
}

// A netfilterRule is a rule of others in a chain of the kernel's own, for both families.
type netfilterRule struct {
	table, chain string
	first        bool // or last
	spec         string
}

// A ruleset is rules of others. Those that come first come in the order given. A chain that is not the kernel's comes and goes
// with the rules in it.
type ruleset []netfilterRule

// kernels is the kernel's own chains.
var kernels = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

func first(table, chain, spec string) netfilterRule { return netfilterRule{table, chain, true, spec} }
func last(table, chain, spec string) netfilterRule  { return netfilterRule{table, chain, false, spec} }

// inEach puts one rule into several chains of a table.
func inEach(put func(table, chain, spec string) netfilterRule, table, spec string, chains ...string) ruleset {
	var out ruleset
	for _, chain := range chains {
		out = append(out, put(table, chain, spec))
	}
	return out
}

func (r ruleset) do(w *world) error {
	next := map[string]int{} // where the next rule goes that comes first, by table and chain
	return r.apply(w, ":%s - [0:0]", func(rule netfilterRule) string {
		if !rule.first {
			return fmt.Sprintf("-A %s %s", rule.chain, rule.spec)
		}
		next[rule.table+rule.chain]++
		return fmt.Sprintf("-I %s %d %s", rule.chain, next[rule.table+rule.chain], rule.spec)
	})
}

func (r ruleset) undo(w *world) error {
	return r.apply(w, "-X %s", func(rule netfilterRule) string { return fmt.Sprintf("-D %s %s", rule.chain, rule.spec) })
}

// apply changes all tables of a family at once: a process costs much more than a rule.
func (r ruleset) apply(w *world, ownChain string, line func(netfilterRule) string) error {
	var text strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		var chains, lines []string
		for _, rule := range r {
			if rule.table != table {
				continue
			}
			lines = append(lines, line(rule))
			if chain := fmt.Sprintf(ownChain, rule.chain); !slices.Contains(kernels, rule.chain) && !slices.Contains(chains, chain) {
				chains = append(chains, chain)
			}
		}
		if strings.HasPrefix(ownChain, ":") {
			lines = append(chains, lines...)
		} else {
			lines = append(lines, chains...)
		}
		fmt.Fprintf(&text, "*%s\n%s\nCOMMIT\n", table, strings.Join(lines, "\n"))
	}
	return errors.Join(
		feed(w, expand(w, text.String(), false), "iptables-restore", "-w", "-n"),
		feed(w, expand(w, text.String(), true), "ip6tables-restore", "-w", "-n"),
	)
}

// routing is routes and policy rules of others, as arguments of ip(8) that add them, for both families. Undone, they are
// deleted with the same arguments, last first.
type routing []string

func (r routing) do(w *world) error { return r.apply(w, r) }

func (r routing) undo(w *world) error {
	var back []string
	for _, line := range slices.Backward(r) {
		back = append(back, strings.Replace(line, " add ", " del ", 1))
	}
	return r.apply(w, back)
}

func (r routing) apply(w *world, lines []string) error {
	text := strings.Join(lines, "\n") + "\n"
	return errors.Join(
		feed(w, expand(w, text, false), "ip", "-4", "-batch", "-"),
		feed(w, expand(w, text, true), "ip", "-6", "-batch", "-"),
	)
}

// settings gives values to files below /proc/sys, whose names are patterns, and the old values back.
type settings struct {
	values map[string]string
	before map[string]string // by file
}

func (s *settings) do(*world) error {
	s.before = map[string]string{}
	for pattern, value := range s.values {
		files, err := filepath.Glob(filepath.Join("/proc/sys", pattern))
		if err == nil && files == nil {
			err = fmt.Errorf("no setting %s", pattern)
		}
		if err != nil {
			return err
		}
		for _, file := range files {
			was, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, []byte(value), 0)
			}
			if err != nil {
				return err
			}
			s.before[file] = string(was)
		}
	}
	return nil
}

func (s *settings) undo(*world) error {
	var errs []error
	for file, value := range s.before {
		err := os.WriteFile(file, []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // of a link that is gone
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// setting is settings of which there are few: names and values in turns.
func setting(pairs ...string) *settings {
	s := &settings{values: map[string]string{}}
	for pair := range slices.Chunk(pairs, 2) {
		s.values[pair[0]] = pair[1]
	}
	return s
}

// A script is shell commands on a host, the node if none is named.
type script struct {
	on          func(*world) *lab.Host
	there, gone string
}

func (s script) do(w *world) error   { return s.run(w, s.there) }
func (s script) undo(w *world) error { return s.run(w, s.gone) }

func (s script) run(w *world, text string) error {
	host := w.Node
	if s.on != nil {
		host = s.on(w)
	}
	return host.Do(func() error { return feed(w, "set -e\n"+expand(w, text, false), "sh") })
}

func onRouter(w *world) *lab.Host { return w.Router }
func onNode2(w *world) *lab.Host  { return w.Node2 }

// feed runs a program with a text as its input.
func feed(_ *world, text, program string, arguments ...string) error {
	command := exec.Command(program, arguments...)
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s\n%s", program, arguments, err, out, text)
	}
	return nil
}

// expand puts addresses in the place of names: {NODE} is the family's, {NODE4} and {NODE6} that of one.
func expand(w *world, text string, v6 bool) string {
	var pairs []string
	for name, of := range map[string]func(bool) netip.Addr{
		"NODE": w.Node.Addr, "NODE2": w.Node2.Addr, "ROUTER": w.Router.Addr, "CLIENT": w.Client.Addr,
		"ASKER": w.Pod("asker").Addr, "POD1": w.Pod("pod1").Addr, "POD2": w.Pod("pod2").Addr, "FAR1": w.Pod("far1").Addr,
	} {
		pairs = append(pairs, "{"+name+"}", of(v6).String(), "{"+name+"4}", of(false).String(), "{"+name+"6}", of(true).String(),
			"{"+name+":8080}", netip.AddrPortFrom(of(v6), podPort).String())
	}
	for name, of := range map[string]lab.Network{
		"LAN": lab.LAN, "OUTSIDE": lab.Outside, "PODS": lab.Pods, "FARPODS": lab.RemotePods,
		"CLUSTERIPS": lab.Services[0], "EXTERNALIPS": lab.Services[1],
	} {
		pairs = append(pairs, "{"+name+"}", of.Prefix(v6).String(), "{"+name+"4}", of[0].String(), "{"+name+"6}", of[1].String())
	}
	words := map[bool][]string{
		false: {"{ALLPODS}", clusterCIDR.Prefixes[0].String(), "{MULTICAST}", "224.0.0.0/4", "{ICMP}", "icmp"},
		true:  {"{ALLPODS}", clusterCIDR.Prefixes[1].String(), "{MULTICAST}", "ff00::/8", "{ICMP}", "icmpv6"},
	}
	pairs = append(pairs, words[v6]...)
	return strings.NewReplacer(pairs...).Replace(text)
}
