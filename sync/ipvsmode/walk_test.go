package ipvsmode

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A walker is a packet of a connection on its way through rules, with all that they can tell of it: the first one, or an answer.
type walker struct {
	t              *testing.T
	rules          iptables.Ruleset
	sets           []string // that have it
	sent           bool     // by IPVS
	answer, udp    bool
	frontend       uint32 // the mark of the frontend, in the bits of mask
	mask           uint32
	mark, connmark uint32
}

// hook takes the packet through the jumps from a built-in chain. It returns the target that ends its way, or "".
func (w *walker) hook(table, from string) string {
	for _, j := range w.rules.Jumps {
		if j.Table == table && j.From == from && w.matches(strings.Fields(j.Match)) {
			if end := w.chain(table, j.To); end != "" && end != "RETURN" {
				return end
			}
		}
	}
	return ""
}

func (w *walker) chain(table, name string) string {
	i := slices.IndexFunc(w.rules.Chains, func(c iptables.Chain) bool { return c.Table == table && c.Name == name })
	for _, rule := range w.rules.Chains[i].Rules {
		match, target, _ := strings.Cut(rule, "-j ")
		if !w.matches(strings.Fields(match)) {
			continue
		}
		words := strings.Fields(target)
		if strings.HasPrefix(words[0], "KIPVS-") {
			if end := w.chain(table, words[0]); end != "" && end != "RETURN" {
				return end
			}
		} else if !w.changes(words) {
			return words[0]
		}
	}
	return ""
}

// matches reports whether all matches of a rule do: "-m NAME", and then "[!] --OPTION ARGUMENT".
func (w *walker) matches(words []string) bool {
	all, not, module := true, false, ""
	for len(words) > 0 {
		word, n, is := words[0], 2, true
		switch word {
		case "-m":
			module = words[1]
		case "!":
			not, words = true, words[1:]
			continue
		case "-p":
			is = (words[1] == "tcp") != w.udp
		case "--tcp-flags": // FIN,SYN,RST,ACK SYN
			is, n = !w.answer, 3
		case "--ctstate":
			is = slices.Contains(strings.Split(words[1], ","), map[bool]string{false: "NEW", true: "ESTABLISHED"}[w.answer])
		case "--ctdir":
			is = words[1] == map[bool]string{false: "ORIGINAL", true: "REPLY"}[w.answer]
		case "--match-set":
			is, n = slices.Contains(w.sets, words[1]), 3
		case "--ipvs":
			is, n = w.sent, 1
		case "--mark":
			value, mask := w.bits(words[1])
			is = map[string]uint32{"mark": w.mark, "connmark": w.connmark}[module]&mask == value
		default:
			w.t.Fatalf("%q is not known to the walker", words)
		}
		all, not, words = all && is != not, false, words[n:]
	}
	return all
}

// changes obeys a target that changes marks, and reports whether it was one.
func (w *walker) changes(target []string) bool {
	switch target[0] {
	case "MARK":
		value, mask := w.bits(target[2])
		w.mark = w.mark&^mask ^ value
	case "CONNMARK":
		if target[1] == "--save-mark" { // the same bits of both: "--nfmask MASK --ctmask MASK"
			mask, _ := w.bits(target[3] + "/0")
			w.connmark = w.connmark&^mask | w.mark&mask
			break
		}
		value, mask := w.bits(target[2])
		w.connmark = w.connmark&^mask ^ value
	case "SET":
		w.mark = w.mark&^w.mask | w.frontend
	default:
		return false
	}
	return true
}

// bits parses "VALUE/MASK".
func (w *walker) bits(s string) (value, mask uint32) {
	w.t.Helper()
	if _, err := fmt.Sscanf(s, "%v/%v", &value, &mask); err != nil {
		w.t.Fatalf("%q: %v", s, err)
	}
	return value, mask
}

// What IPVS sends on is no question to a frontend, even if the endpoint's address and port is one.
func TestSentIsNotDecidedAgain(t *testing.T) {
	m := MarksFor(14)
	for _, d := range detectors {
		for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
			for _, bind := range []bool{false, true} {
				for _, mark := range []uint32{0, m.Divert, m.Divert | m.Masquerade} {
					sets := SetsOf(family)
					w := walker{
						t: t, rules: Rules(RulesConfig{Marks: m, Detector: d.Detector, Bind: bind}, family), sent: true,
						sets: []string{sets.Frontends.Name, sets.External.Name, sets.Ranged.Name}, frontend: m.Value(Masquerade), mask: m.Mask(),
						mark: mark, connmark: mark,
					}
					end := w.hook("mangle", "OUTPUT")
					if end != "" || w.mark != mark || w.connmark != mark {
						t.Errorf("%s, %v, bind %v: mark %#x became %#x, and the connection's %#x (%s)", d.name, family, bind, mark, w.mark, w.connmark, end)
					}
				}
			}
		}
	}
}

// The node's own packet gets the mark that leads it to IPVS, which sends it on without.
func TestOwnMarkIsForIPVSAlone(t *testing.T) {
	m, sets := MarksFor(14), SetsOf(inet.IPv4)
	w := walker{
		t: t, rules: Rules(RulesConfig{Marks: m, Detector: detectors[0].Detector}, inet.IPv4),
		sets: []string{sets.Frontends.Name, sets.External.Name}, frontend: m.Value(Masquerade), mask: m.Mask(),
	}
	for _, sent := range []bool{false, true} {
		want := m.Masquerade
		if !sent {
			want |= m.Own
		}
		w.sent = sent
		if end := w.hook("mangle", "OUTPUT"); end != "" || w.mark != want || w.connmark != m.Masquerade|m.Own {
			t.Errorf("sent %v: mark %#x, the connection's %#x (%s)", sent, w.mark, w.connmark, end)
		}
	}
}

// The node's own connections to external frontends are masqueraded, whatever the policy and whether or not pods can be found. Only to
// cluster IPs they keep their source where pods cannot be found.
func TestOwnConnectionsAreMasqueraded(t *testing.T) {
	m, sets := MarksFor(14), SetsOf(inet.IPv4)
	for _, d := range detectors {
		for _, bind := range []bool{false, true} {
			for _, as := range []Treatment{KeepSource, DropExternal, Masquerade, MasqueradeExternal} {
				w := walker{
					t: t, rules: Rules(RulesConfig{Marks: m, Detector: d.Detector, Bind: bind}, inet.IPv4),
					sets: []string{sets.Frontends.Name}, frontend: m.Value(as), mask: m.Mask(),
				}
				want := m.Masquerade
				if as == MasqueradeExternal && !bind && !d.Detects(true) {
					want = 0
				}
				if end := w.hook("mangle", "OUTPUT"); end != "" || w.mark&m.Masquerade != want || w.connmark != want {
					t.Errorf("%s, bind %v, %v: mark %#x, the connection's %#x, want %#x (%s)", d.name, bind, as, w.mark, w.connmark, want, end)
				}
				s := Situation{Marks: m, Detector: d.Detector, Bind: bind, Frontend: frontendOf(as)}
				s.To.Addr = aPod
				if got := Decide(s, loop.FromNode, aNode).Masqueraded; got != (want != 0) {
					t.Errorf("%s, bind %v, %v: explained as masqueraded %v", d.name, bind, as, got)
				}
			}
		}
	}
}

// frontendOf returns a frontend with a treatment.
func frontendOf(t Treatment) *plan.Frontend {
	return &plan.Frontend{DropExternal: t == DropExternal, Masquerade: map[Treatment]plan.Masquerade{Masquerade: plan.MasqueradeAll, MasqueradeExternal: plan.MasqueradeExternal}[t]}
}
