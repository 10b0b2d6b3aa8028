package steering

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// ruleMessage is struct fib_rule_hdr and attributes as the kernel tells of an IPv4 rule (fib_nl_fill_rule in
// net/core/fib_rules.c).
func ruleMessage(r Rule, protocol uint8, more ...[]byte) []byte {
	action, compat := byte(lookUpAction), byte(r.Table)
	if r.Table > 255 {
		compat = unix.RT_TABLE_COMPAT
	}
	if r.Table == 0 {
		action = goToAction
	}
	p := []byte{unix.AF_INET, 0, 0, 0, compat, 0, 0, action, 0, 0, 0, 0}
	p = slices.Concat(p, attr(tableAttr, number(r.Table)...), attr(suppressAttr, number(^uint32(0))...), attr(protocolAttr, protocol))
	if r.Own {
		p = append(p, attr(iifAttr, []byte("lo\x00")...)...)
	}
	if r.Priority != 0 {
		p = append(p, attr(priorityAttr, number(r.Priority)...)...)
	}
	if r.Mask != 0 {
		p = slices.Concat(p, attr(markAttr, number(r.Mark)...), attr(maskAttr, number(r.Mask)...))
	}
	if r.Table == 0 {
		p = append(p, attr(goToAttr, number(r.Goto)...)...)
	}
	return slices.Concat(p, slices.Concat(more...))
}

// TestEveryPolicyReadsBack encodes every rule of a node's as a request and reads it as the kernel would tell it.
func TestEveryPolicyReadsBack(t *testing.T) {
	seen := map[Rule]bool{}
	for _, family := range []netip.Prefix{v4, v6} {
		items := Policies(family, 0x1000, 0x10)
		if len(items) != 5 {
			t.Fatalf("%d rules, want 5", len(items))
		}
		for _, i := range items {
			if err := (Op{Item: i}).check(); err != nil || i.Kind != Policy || i.Prefix != family {
				t.Errorf("%v of %v: %v", i, family, err)
			}
			for verb, typ := range map[Verb]byte{Add: unix.RTM_NEWRULE, Del: unix.RTM_DELRULE} {
				var b bulk.Batch
				i.Rule.encode(&b, verb, familyOf(family))
				p := b.Bytes()
				got, owned, err := parseRule(p[unix.SizeofNlMsghdr:])
				if err != nil || !owned || got != i.Rule || p[4] != typ || p[unix.SizeofNlMsghdr] != familyOf(family) {
					t.Errorf("%v: encoded as %+v, owned %t, %v", Op{Verb: verb, Item: i}, got, owned, err)
				}
			}
			got, owned, err := parseRule(ruleMessage(i.Rule, RouteProtocol))
			if err != nil || !owned || got != i.Rule {
				t.Errorf("%v: the kernel's is %+v, owned %t, %v", i.Rule, got, owned, err)
			}
			seen[i.Rule] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d different rules of both families, want 5", len(seen))
	}
}

// TestGotoHasItsTarget wants a later rule where others go to: the kernel takes a rule that goes nowhere, but packets then pass
// it as if it were not there.
func TestGotoHasItsTarget(t *testing.T) {
	made, gotos := map[uint32]bool{}, 0
	for _, i := range Policies(v4, 0x1000, 0x10) {
		made[i.Rule.Priority] = true
	}
	for _, i := range Policies(v4, 0x1000, 0x10) {
		if i.Rule.Goto == 0 {
			continue
		}
		gotos++
		if !made[i.Rule.Goto] || i.Rule.Goto <= i.Rule.Priority {
			t.Errorf("%v: no later rule there", i.Rule)
		}
	}
	if gotos == 0 {
		t.Error("no rule goes anywhere")
	}
}

func TestParseRule(t *testing.T) {
	divert := Rule{Priority: divertPriority, Mark: 0x1000, Mask: 0x1000, Table: DivertTable}
	check := Rule{Priority: checkPriority, Mark: 0x1000, Mask: 0x1000, Own: true, Goto: afterPriority}
	foreign := Rule{Priority: 32766, Table: unix.RT_TABLE_MAIN}
	marked := Rule{Priority: 5210, Mark: 0x80000, Mask: 0xff0000, Table: 254}
	edit := func(p []byte, at int, v byte) []byte { p[at] = v; return p }
	tests := []struct {
		name    string
		message []byte
		want    Rule
		owned   bool
	}{
		{"owned", ruleMessage(divert, RouteProtocol), divert, true},
		{"owned with a goto", ruleMessage(check, RouteProtocol), check, true},
		{"a rule of whomever to our table", ruleMessage(divert, 3), divert, true},
		{"our protocol with bits beyond ours", ruleMessage(marked, RouteProtocol), marked, true},
		{"whose target is not there", edit(ruleMessage(check, RouteProtocol), 8, 4), check, true}, // FIB_RULE_UNRESOLVED
		{"a rule of whomever", ruleMessage(foreign, 2), foreign, false},
		{"a rule of whomever by a mark", ruleMessage(marked, 0), marked, false},
		{"a rule of whomever that goes on", ruleMessage(check, 3), check, false},
		{"for a destination", edit(ruleMessage(divert, RouteProtocol, attr(1, 10, 0, 0, 0)), 1, 8), divert, false},
		{"for a source", edit(ruleMessage(divert, RouteProtocol, attr(2, 10, 0, 0, 0)), 2, 8), divert, false},
		{"for a type of service", edit(ruleMessage(divert, RouteProtocol), 3, 4), divert, false},
		{"that rejects", edit(ruleMessage(divert, RouteProtocol), 7, unix.FR_ACT_UNREACHABLE), divert, false},
		{"for all others", edit(ruleMessage(divert, RouteProtocol), 8, ruleInvert), divert, false},
		{"from another link", ruleMessage(divert, RouteProtocol, attr(iifAttr, []byte("eth0\x00")...)), divert, false},
		{"to a link", ruleMessage(divert, RouteProtocol, attr(17, []byte("eth0\x00")...)), divert, false},
		{"for a user", ruleMessage(divert, RouteProtocol, attr(20, 0, 0, 0, 0, 0, 0, 0, 0)), divert, false},
		{"for a protocol of IP", ruleMessage(divert, RouteProtocol, attr(22, 6)), divert, false},
		{"for a port", ruleMessage(divert, RouteProtocol, attr(24, 80, 0, 80, 0)), divert, false},
		{"that passes over short prefixes", ruleMessage(divert, RouteProtocol, attr(suppressAttr, number(0)...)), divert, false},
	}
	for _, tt := range tests {
		r, owned, err := parseRule(tt.message)
		if owned != tt.owned || err != nil {
			t.Errorf("%s: owned %t, %v, want %t", tt.name, owned, err, tt.owned)
		}
		if tt.owned && r != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, r, tt.want)
		}
	}
	for _, p := range [][]byte{nil, make([]byte, ruleHeaderLen-1), append(ruleMessage(divert, 3), 3, 0, 0, 0), ruleMessage(divert, 3, attr(markAttr, 1))} {
		if r, _, err := parseRule(p); !errors.Is(err, bulk.ErrMalformed) {
			t.Errorf("% x: %v, %v, want an error", p, r, err)
		}
	}
}

func TestWrongRules(t *testing.T) {
	for _, tt := range []struct {
		name string
		item Item
		ok   bool
	}{
		{"a rule by a mark", Item{Policy, v4, Rule{Priority: 6, Mark: 0x1000, Mask: 0x3000, Table: DivertTable}}, true},
		{"a rule for what is not marked", Item{Policy, v4, Rule{Priority: 6, Mask: 0x1000, Table: DivertTable}}, true},
		{"bits beyond the mask", Item{Policy, v4, Rule{Priority: 6, Mark: 0x1000, Mask: 0x2000, Table: DivertTable}}, false},
		{"a mark without mask", Item{Policy, v4, Rule{Priority: 6, Mark: 0x1000, Table: DivertTable}}, false},
		{"neither a table nor a rule to go to", Item{Policy, v4, Rule{Priority: 6}}, false},
		{"both", Item{Policy, v4, Rule{Priority: 6, Table: DivertTable, Goto: 7}}, false},
		{"a rule that goes to itself", Item{Policy, v4, Rule{Priority: 6, Goto: 6}}, false},
		{"a rule that goes back", Item{Policy, v4, Rule{Priority: 6, Goto: 5}}, false},
		{"a rule of a part", Item{Policy, netip.MustParsePrefix("10.0.0.0/8"), Rule{Priority: 6, Table: DivertTable}}, false},
		{"a rule of a route", Item{Divert, netip.MustParsePrefix("203.0.113.7/32"), Rule{Priority: 6, Table: DivertTable}}, false},
	} {
		if err := (Op{Item: tt.item}).check(); (err == nil) != tt.ok || err != nil && !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: %v, want success %t", tt.name, err, tt.ok)
		}
	}
}

// TestOrderOfRules wants any two different rules in an order, so that what is printed and made is always the same.
func TestOrderOfRules(t *testing.T) {
	base := Rule{Priority: 6, Mark: 1, Mask: 1, Table: 2}
	for name, change := range map[string]func(*Rule){
		"priority": func(r *Rule) { r.Priority++ },
		"mark":     func(r *Rule) { r.Mark = 0 },
		"mask":     func(r *Rule) { r.Mask = 3 },
		"table":    func(r *Rule) { r.Table++ },
		"goto":     func(r *Rule) { r.Goto++ },
		"own":      func(r *Rule) { r.Own = true },
	} {
		other := base
		change(&other)
		a, b := Item{Policy, v4, base}, Item{Policy, v4, other}
		if a.Compare(a) != 0 || a.Compare(b) == 0 || a.Compare(b) != -b.Compare(a) {
			t.Errorf("%s: compared %d and %d", name, a.Compare(b), b.Compare(a))
		}
	}
}
