package ipvsmode

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/reconcile"
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
		for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
			for _, bind := range []bool{false, true} {
				name := fmt.Sprintf("rules-%s-%s-%s", d.name, map[inet.Family]string{inet.IPv4: "ipv4", inet.IPv6: "ipv6"}[family], map[bool]string{false: "divert", true: "bind"}[bind])
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
		for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
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

// What others decide in a filter stands for the addresses that the node has. What is for an address that packets reach only for the
// sake of a frontend no firewall's rule can mean, and is accepted first; but agents that enforce policies see it before.
func TestFiltersOfOthersStand(t *testing.T) {
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		for _, bind := range []bool{false, true} {
			r := Rules(RulesConfig{Marks: MarksFor(14), Bind: bind}, family)
			first, last := 0, 0
			for _, j := range r.Jumps {
				if j.Table != "filter" || j.From != "INPUT" {
					continue
				}
				if j.Last {
					last += len(accepts(r, j.To, nil))
					continue
				}
				if !slices.Equal(j.Behind, []string{"cali-INPUT", "KUBE-ROUTER-INPUT"}) {
					t.Errorf("%v stands behind %v", j, j.Behind)
				}
				for _, path := range accepts(r, j.To, nil) {
					checkAccepted(t, SetsOf(family), path)
					first++
				}
			}
			if first < 3 || last != 1 {
				t.Errorf("%d ways to be accepted before what others decide, and %d behind it", first, last)
			}
		}
	}
}

// accepts returns the ways that lead from a filter chain to ACCEPT, each with its rules.
func accepts(r iptables.Ruleset, chain string, before []string) [][]string {
	var out [][]string
	for _, c := range r.Chains {
		if c.Table != "filter" || c.Name != chain {
			continue
		}
		for _, rule := range c.Rules {
			path := append(slices.Clone(before), rule)
			_, to, _ := strings.Cut(rule, "-j ")
			if to == "ACCEPT" {
				out = append(out, path)
			} else {
				out = append(out, accepts(r, to, path)...)
			}
		}
	}
	return out
}

// checkAccepted wants a way to ACCEPT to be for diverted or cluster addresses, or for health-check node ports.
func checkAccepted(t *testing.T, sets Sets, path []string) {
	t.Helper()
	for _, set := range []string{sets.Local.Name + " dst ", sets.External.Name + " dst,dst ", sets.Health.Name + " dst,dst "} {
		if strings.Contains(path[0], "-m set --match-set "+set) {
			return
		}
	}
	t.Errorf("%q comes before what others decide", path)
}

// Nobody else's translation takes a frontend, and no way to be translated by us comes behind the rule that accepts them all.
func TestFrontendsAreNotTranslatedByOthers(t *testing.T) {
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		sets := SetsOf(family)
		r := Rules(RulesConfig{Marks: MarksFor(14), Detector: detectors[0].Detector}, family)
		for _, chain := range []string{"KIPVS-PREROUTING", "KIPVS-OUTPUT"} {
			i := slices.IndexFunc(r.Chains, func(c iptables.Chain) bool { return c.Table == "nat" && c.Name == chain })
			want := []string{
				fmt.Sprintf("-m set --match-set %s dst,dst -j KIPVS-REJECT", sets.Rejected.Name),
				fmt.Sprintf("-m set --match-set %s dst,dst -j NETMAP --to %v", sets.Internal.Name, inet.AliasRange(family)),
				fmt.Sprintf("-m set --match-set %s dst,dst -j ACCEPT", sets.Frontends.Name),
				fmt.Sprintf("-m set --match-set %s dst -j KIPVS-REJECT", sets.Closed.Name),
			}
			if chain == "KIPVS-PREROUTING" {
				pods := map[inet.Family]string{inet.IPv4: "10.244.0.0/16", inet.IPv6: "fd00:244::/48"}[family]
				want[1] = "-s " + pods + " " + want[1] // the node itself is internal anyway
			}
			if diff := cmp.Diff(want, r.Chains[i].Rules); diff != "" {
				t.Errorf("%s (-want +got):\n%s", chain, diff)
			}
			if j := slices.IndexFunc(r.Jumps, func(j iptables.Jump) bool { return j.Table == "nat" && j.To == chain }); j < 0 || r.Jumps[j].Last || r.Jumps[j].Behind != nil {
				t.Errorf("the jump to %s does not come first", chain)
			}
		}
	}
}

// Where iptables is too old for random ports, nothing but that word is missing.
func TestPredictablePorts(t *testing.T) {
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		want := strings.ReplaceAll(Rules(RulesConfig{Marks: MarksFor(14)}, family).String(), " --random-fully", "")
		got := Rules(RulesConfig{Marks: MarksFor(14), PredictablePorts: true}, family).String()
		if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(got, "-j MASQUERADE\n") {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// The rules of every masquerade bit are the same but for the numbers.
func TestRulesAreAConstant(t *testing.T) {
	want := Rules(RulesConfig{Marks: MarksFor(14)}, inet.IPv4).Count()
	for bit := range 32 {
		if got := Rules(RulesConfig{Marks: MarksFor(bit)}, inet.IPv4).Count(); got != want {
			t.Errorf("bit %d: %d rules, want %d", bit, got, want)
		}
	}
	if most := 79; want > most {
		t.Errorf("%d rules are more than %d", want, most)
	}
}

func TestSets(t *testing.T) {
	r := newRig(t)
	r.families = []inet.Family{inet.IPv4, inet.IPv6}
	layers := newDataplane(r.config()).layers
	seen := map[string]bool{}
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		sets := SetsOf(family)
		if len(sets.All()) != 12 {
			t.Errorf("%d sets, want 12", len(sets.All()))
		}
		for _, s := range sets.All() {
			if seen[s.Name] || !strings.HasPrefix(s.Name, SetPrefix) || len(s.Name) > 31 || s.Family != family {
				t.Errorf("set %+v: name taken, too long or without prefix, or of the wrong family", s)
			}
			seen[s.Name] = true
		}
		// What protects or serves a frontend stands before it is turned on; what takes packets to it comes behind.
		place := func(s ipset.Set) int {
			return slices.IndexFunc(layers, func(l reconcile.Layer) bool { return l.Name() == "set "+s.Name })
		}
		for _, before := range []ipset.Set{sets.Owned, sets.Local, sets.Addresses, sets.Allowed, sets.Ranged, sets.Hairpins, sets.Rejected} {
			if place(before) < 0 || place(before) > place(sets.Frontends) {
				t.Errorf("%s is filled behind the frontends", before.Name)
			}
		}
		for _, behind := range []ipset.Set{sets.Internal, sets.External, sets.Closed} {
			if place(behind) < place(sets.Frontends) { // also if it has no layer
				t.Errorf("%s is filled before the frontends", behind.Name)
			}
		}
		if place(sets.Allowed) > place(sets.Ranged) {
			t.Errorf("%s is filled before %s: nobody would be allowed for a moment", sets.Ranged.Name, sets.Allowed.Name)
		}
	}
}
