package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
)

var update = flag.Bool("update", false, "write what is found into testdata")

var detectors = []struct {
	name string
	Detector
}{
	{"prefixes", Detector{Prefixes: prefixes("10.244.0.0/16", "fd00:244::/48")}},
	{"ipv4-prefix", Detector{Prefixes: prefixes("10.244.0.0/16")}},
	{"bridge", Detector{Interface: "cni0"}},
	{"interfaces", Detector{Interface: "veth+"}},
	{"none", Detector{}},
}

// The whole ruleset, for both families, every way to find pods and both ways to take packets.
func TestRulesAsWritten(t *testing.T) {
	for _, d := range detectors {
		for _, family := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
			for _, bind := range []bool{false, true} {
				name := fmt.Sprintf("rules-%s-%s-%s", d.name, map[ipset.Family]string{ipset.IPv4: "ipv4", ipset.IPv6: "ipv6"}[family], map[bool]string{false: "divert", true: "bind"}[bind])
				t.Run(name, func(t *testing.T) {
					r := Rules(RulesConfig{Marks: MarksFor(14), Detector: d.Detector, Bind: bind}, family)
					got := r.String()
					for _, j := range r.Jumps {
						got += fmt.Sprintln(j)
					}
					golden(t, filepath.Join("testdata", name+".golden"), got)
				})
			}
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Rules refer to chains and sets that there are, and to no chain that nothing leads to.
func TestRulesAreWhole(t *testing.T) {
	for _, d := range detectors {
		for _, family := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
			r := Rules(RulesConfig{Marks: MarksFor(14), Detector: d.Detector, Bind: true}, family)
			used := map[string]bool{}
			for _, j := range r.Jumps {
				used[j.Table+" "+j.To] = true
			}
			var sets []string
			for _, s := range SetsOf(family).All() {
				sets = append(sets, s.Name)
			}
			for _, c := range r.Chains {
				for _, rule := range c.Rules {
					checkRule(t, r, c.Table, rule, sets, used)
				}
			}
			for _, c := range r.Chains {
				if !used[c.Table+" "+c.Name] {
					t.Errorf("nothing leads to %s %s", c.Table, c.Name)
				}
				if len(c.Name) > 28 {
					t.Errorf("%s has more than 28 characters", c.Name)
				}
			}
		}
	}
}

func checkRule(t *testing.T, r iptables.Ruleset, table, rule string, sets []string, used map[string]bool) {
	t.Helper()
	words := strings.Fields(rule)
	for i, w := range words {
		switch w {
		case "-j":
			to := words[i+1]
			if strings.HasPrefix(to, "KIPVS-") {
				used[table+" "+to] = true
				if !slices.ContainsFunc(r.Chains, func(c iptables.Chain) bool { return c.Table == table && c.Name == to }) {
					t.Errorf("%q leads to a chain that is not there", rule)
				}
			}
		case "--match-set", "--map-set":
			if !slices.Contains(sets, words[i+1]) {
				t.Errorf("%q refers to a set that is not there", rule)
			}
		}
	}
}

// What others decide in a filter stands: none of our rules that comes before theirs accepts a frontend.
func TestFiltersOfOthersStand(t *testing.T) {
	for _, family := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
		for _, bind := range []bool{false, true} {
			r := Rules(RulesConfig{Marks: MarksFor(14), Bind: bind}, family)
			last := map[string]bool{}
			for _, j := range r.Jumps {
				last[j.Table+" "+j.To] = j.Last
			}
			for _, c := range r.Chains {
				for _, rule := range c.Rules {
					frontends := strings.Contains(rule, "--match-set "+SetsOf(family).Frontends.Name+" ")
					if c.Table == "filter" && frontends && strings.HasSuffix(rule, "-j ACCEPT") && !last["filter "+c.Name] {
						t.Errorf("%s: %q comes before what others decide", c.Name, rule)
					}
				}
			}
		}
	}
}

// Where iptables is too old for random ports, nothing but that word is missing.
func TestPredictablePorts(t *testing.T) {
	for _, family := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
		want := strings.ReplaceAll(Rules(RulesConfig{Marks: MarksFor(14)}, family).String(), " --random-fully", "")
		got := Rules(RulesConfig{Marks: MarksFor(14), PredictablePorts: true}, family).String()
		if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(got, "-j MASQUERADE\n") {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// The rules of every masquerade bit are the same but for the numbers.
func TestRulesAreAConstant(t *testing.T) {
	want := Rules(RulesConfig{Marks: MarksFor(14)}, ipset.IPv4).Count()
	for bit := range 32 {
		if got := Rules(RulesConfig{Marks: MarksFor(bit)}, ipset.IPv4).Count(); got != want {
			t.Errorf("bit %d: %d rules, want %d", bit, got, want)
		}
	}
	if most := 50; want > most {
		t.Errorf("%d rules are more than %d", want, most)
	}
}

func TestSets(t *testing.T) {
	seen := map[string]bool{}
	for _, family := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
		sets := SetsOf(family)
		if len(sets.All()) != 8 {
			t.Errorf("%d sets, want 8", len(sets.All()))
		}
		for _, s := range sets.All() {
			if seen[s.Name] || !strings.HasPrefix(s.Name, SetPrefix) || len(s.Name) > 31 || s.Family != family {
				t.Errorf("set %+v: name taken, too long or without prefix, or of the wrong family", s)
			}
			seen[s.Name] = true
		}
		if last := sets.All()[7]; last != sets.Frontends {
			t.Errorf("%s comes last, want the frontends: they are turned on when all else stands", last.Name)
		}
	}
}
