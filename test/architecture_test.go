package test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/ipvsmode"
)

var update = flag.Bool("update", false, "write the rules into docs/architecture.md")

const architecture = "../docs/architecture.md"

// What docs/architecture.md says of the rules.
var (
	rulesCount   = regexp.MustCompile(`The rules are a constant: \d+ for each family`)
	rulesListing = regexp.MustCompile(`(?m)^    \*raw\n(    .*\n)*`)
)

// The rules, and their number, are in docs/architecture.md as iptables-save prints them.
func TestArchitectureShowsTheRules(t *testing.T) {
	cfg := ipvsmode.RulesConfig{Marks: ipvsmode.MarksFor(14), Detector: ipvsmode.Detector{Prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"),
	}}}
	rules := ipvsmode.Rules(cfg, inet.IPv4)
	if other := ipvsmode.Rules(cfg, inet.IPv6); other.Count() != rules.Count() {
		t.Errorf("%d rules for IPv4, %d for IPv6", rules.Count(), other.Count())
	}
	text := read(t, architecture)
	want := rulesCount.ReplaceAllLiteralString(text, fmt.Sprintf("The rules are a constant: %d for each family", rules.Count()))
	want = rulesListing.ReplaceAllLiteralString(want, saved(rules))
	for _, of := range []*regexp.Regexp{rulesCount, rulesListing} {
		if n := len(of.FindAllString(text, -1)); n != 1 {
			t.Errorf("%s has %v %d times, want once", architecture, of, n)
		}
	}
	switch {
	case text == want:
	case *update:
		if err := os.WriteFile(architecture, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s shows other rules than the program's: go test ./test -run TestArchitecture -update", architecture)
	}
}

// saved returns rules as iptables-save prints them, indented.
func saved(r iptables.Ruleset) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, "    "+format+"\n", args...) }
	hooks := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	jumps, chains := slices.Clone(r.Jumps), slices.Clone(r.Chains)
	slices.SortStableFunc(jumps, func(a, b iptables.Jump) int {
		return cmp.Compare(slices.Index(hooks, a.From), slices.Index(hooks, b.From))
	})
	slices.SortFunc(chains, func(a, b iptables.Chain) int { return strings.Compare(a.Name, b.Name) })
	for _, table := range r.Tables() {
		line("*%s", table)
		for _, j := range jumps {
			if j.Table == table {
				line("-A %s -j %s", j.From, j.To)
			}
		}
		for _, c := range chains {
			for _, rule := range c.Rules {
				if c.Table != table {
					break
				}
				if strings.HasSuffix(rule, "-j REJECT") {
					rule += " --reject-with icmp-port-unreachable"
				}
				line("-A %s %s", c.Name, strings.ReplaceAll(rule, "/0x0", "/0"))
			}
		}
	}
	return out.String()
}

// The sets are in docs/architecture.md, in their order, with their types.
func TestArchitectureShowsTheSets(t *testing.T) {
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(KIPVS-[A-Z0-9-]+)` \\| (hash:[a-z,]+) \\|").FindAllStringSubmatch(read(t, architecture), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	for _, s := range ipvsmode.SetsOf(inet.IPv4).All() {
		want = append(want, fmt.Sprint(s.Name, " ", s.Type))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the sets\n%s\nwant\n%s", architecture, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The rules of the routing policy are in docs/architecture.md, a row each: priority and rule.
func TestArchitectureShowsTheRouting(t *testing.T) {
	marks, text := ipvsmode.MarksFor(14), read(t, architecture)
	for _, item := range steering.Policies(netip.MustParsePrefix("0.0.0.0/0"), marks.Divert, marks.Own) {
		priority, rule, _ := strings.Cut(strings.TrimPrefix(item.Rule.String(), "pref "), " ")
		if row := fmt.Sprintf("\n| %s | `%s` |", priority, rule); !strings.Contains(text, row) {
			t.Errorf("%s lacks %q", architecture, row)
		}
	}
}

// Functions that docs/architecture.md names, as "package: name, name" in backquotes, exist.
func TestArchitectureNamesFunctionsThatExist(t *testing.T) {
	names := regexp.MustCompile("`([a-z][-a-z0-9/]*): (\\w+(?:, \\w+)*)`").FindAllStringSubmatch(read(t, architecture), -1)
	if len(names) < 20 {
		t.Fatalf("%d hops are named, which cannot be all", len(names))
	}
	for _, m := range names {
		declared := declarations(t, filepath.Join("..", m[1]))
		for name := range strings.SplitSeq(m[2], ", ") {
			if !declared[name] {
				t.Errorf("%s names %s of %s, which does not exist", architecture, name, m[1])
			}
		}
	}
}

// declarations returns the names of a package's functions, methods and types.
func declarations(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				out[d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						out[s.Name.Name] = true
					}
				}
			}
		}
	}
	return out
}

// The map in docs/architecture.md has every package of the product but those that end in "test", and no other.
func TestArchitectureMapIsWhole(t *testing.T) {
	var mapped []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z][-a-z0-9/]*)` \\|").FindAllStringSubmatch(read(t, architecture), -1) {
		mapped = append(mapped, m[1])
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test && !s.in("test") && !strings.HasSuffix(s.dir, "test") {
			there[s.dir] = true
		}
	}
	for dir := range there {
		if !slices.Contains(mapped, dir) {
			t.Errorf("the map of %s lacks %s", architecture, dir)
		}
	}
	for _, dir := range mapped {
		if !there[dir] {
			t.Errorf("the map of %s has %s, which is no package", architecture, dir)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
