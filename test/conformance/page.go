package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kube-ipvs/test/kept"
)

// kubernetesVersion is the version of everything of Kubernetes here; TestVersion holds it against the modules.
const kubernetesVersion = "1.37.2"

// A column is what one proxy's run had to say.
type column struct {
	proxy
	results map[string]result
}

// mark is what the table says of a test.
func (c column) mark(t test) string {
	r, ran := c.results[t.name]
	switch {
	case !ran:
		return "not run"
	case !r.Passed:
		return "**failed**"
	case r.Attempts > 1:
		return fmt.Sprintf("%.0f s, alone", r.Seconds)
	}
	return fmt.Sprintf("%.0f s", r.Seconds)
}

// count returns how many of the tests passed, and how many ran.
func (c column) count() (passed, ran int) {
	for _, r := range c.results {
		if ran++; r.Passed {
			passed++
		}
	}
	return passed, ran
}

// version says what was tested.
func (c column) version() string {
	if c.program == "kube-proxy" {
		return kubernetesVersion
	}
	commits := map[string]bool{} // programs of several commits may be the same
	for _, r := range c.results {
		commits[r.Commit] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(commits)), ", ")
}

// writePage writes conformance.md, if that is asked for, from all results that are there for the programs as they are now. A
// proxy without any is missing. A replacement says of which commit it is.
func (o options) writePage(tests []test) error {
	if o.docs == "" {
		return nil
	}
	replacements, err := o.loadReplacements()
	if err != nil {
		return err
	}
	var columns []column
	for _, p := range proxies {
		s := setting{bin: o.bin, state: filepath.Join(o.state, p.name), name: p.name}
		program, err := kept.Hash(filepath.Join(o.bin, p.program))
		if err != nil {
			return err
		}
		c := column{p, map[string]result{}}
		for _, t := range choose(tests, regexp.MustCompile(""), false) {
			r, known, err := s.load(t.name, program)
			if err != nil {
				return err
			}
			if known {
				c.results[t.name] = r
			}
		}
		if len(c.results) > 0 {
			columns = append(columns, c)
		}
	}
	return os.WriteFile(filepath.Join(o.docs, "conformance.md"), []byte(page(tests, columns, replacements)), 0o644)
}

const pageHead = `# Kubernetes' own end-to-end tests

` + "`make conformance`" + ` wrote this page: all tests of SIG Network from Kubernetes %s, unchanged, against kube-ipvs in both
` + "`--vip-mode`" + `s, and against kube-proxy's iptables mode in the same cluster as the reference: what fails there, too, fails because of
the cluster, which has real kubelets but neither containers nor images ([how](../test/conformance/README.md)). It has three
nodes, or six where a test asks for them, and both families, IPv4 first; the proxies run in DaemonSets. A time is how long the
test took beside others; "alone": it ran out of its time beside others, and passed when nothing else ran.

`

// page returns the page as Markdown.
func page(tests []test, columns []column, replacements []replacement) string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, kubernetesVersion)
	b.WriteString("| | of | passed | failed | not run |\n|---|---|---|---|---|\n")
	chosen := slices.DeleteFunc(slices.Clone(tests), func(t test) bool { return t.leftOut != "" })
	for _, c := range columns {
		passed, ran := c.count()
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d |\n", c.heading, c.version(), passed, ran-passed, len(chosen)-ran)
	}
	fmt.Fprintf(&b, "\n%d tests are left out, [each with its reason](#left-out).\n", len(tests)-len(chosen))
	writeFailures(&b, chosen, columns)
	writeReplacements(&b, replacements)
	b.WriteString("\n## Each test\n\n| test |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.heading)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, t := range chosen {
		fmt.Fprintf(&b, "| %s |", plain(t.name))
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", c.mark(t))
		}
		b.WriteString("\n")
	}
	writeLeftOut(&b, tests)
	return b.String()
}

// writeFailures writes why each test failed that did.
func writeFailures(b *strings.Builder, tests []test, columns []column) {
	title := "\n## Failures\n\n"
	for _, t := range tests {
		for _, c := range columns {
			r, ran := c.results[t.name]
			if !ran || r.Passed {
				continue
			}
			why := "not expected: " + plain(r.Failure)
			if !t.expected(c.proxy) {
				why = t.fails
			}
			fmt.Fprintf(b, "%s- %s, %s: %s\n", title, plain(t.name), c.heading, why)
			title = ""
		}
	}
}

// writeLeftOut writes the tests that do not run, by reason.
func writeLeftOut(b *strings.Builder, tests []test) {
	reasons := map[string][]string{}
	for _, t := range tests {
		if t.leftOut != "" {
			reasons[t.leftOut] = append(reasons[t.leftOut], t.name)
		}
	}
	b.WriteString("\n## Left out\n")
	byCount := func(x, y string) int {
		return cmp.Or(len(reasons[y])-len(reasons[x]), strings.Compare(x, y))
	}
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), byCount) {
		fmt.Fprintf(b, "\n%d: %s\n\n", len(reasons[reason]), reason)
		for _, name := range reasons[reason] {
			fmt.Fprintf(b, "- %s\n", plain(name))
		}
	}
}

// plain returns a test's name as text in a table of Markdown.
func plain(name string) string {
	name = strings.TrimPrefix(name, "[sig-network] ")
	return strings.NewReplacer("|", "\\|", "[", "\\[", "<", "\\<", "*", "\\*", "_", "\\_").Replace(name)
}
