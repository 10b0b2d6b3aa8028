package main

import "testing"

// Ten packets are counted: three find a verdict in a chain, two return early, and all others see every rule.
func TestEvaluated(t *testing.T) {
	const before = `*mangle
:PREROUTING ACCEPT [5:100]
:OURS - [0:0]
:EMPTY - [0:0]
[5:100] -A PREROUTING -j OURS
[0:0] -A PREROUTING -p udp -j EMPTY
[0:0] -A OURS -m conntrack --ctstate ESTABLISHED -j RETURN
[0:0] -A OURS -m set --match-set A dst,dst -m set ! --match-set B src -j DROP
[5:100] -A OURS -j SET --map-set A dst,dst --map-mark
COMMIT
`
	const after = `*mangle
:PREROUTING ACCEPT [12:240]
:OURS - [0:0]
:EMPTY - [0:0]
[15:300] -A PREROUTING -j OURS
[0:0] -A PREROUTING -p udp -j EMPTY
[2:40] -A OURS -m conntrack --ctstate ESTABLISHED -j RETURN
[3:60] -A OURS -m set --match-set A dst,dst -m set ! --match-set B src -j DROP
[10:200] -A OURS -j SET --map-set A dst,dst --map-mark
COMMIT
`
	was, err := parseCounters(before)
	if err != nil {
		t.Fatal(err)
	}
	is, err := parseCounters(after)
	if err != nil {
		t.Fatal(err)
	}
	rules, sets := is.since(was).evaluated()
	// 10 jump, 7 see the second jump; 10 see the first of ours, 8 the second, 5 the third.
	if want := 10.0 + 7 + 10 + 8 + 5; rules != want {
		t.Errorf("%v rules evaluated, want %v", rules, want)
	}
	if want := 8.0*2 + 5; sets != want {
		t.Errorf("%v sets asked, want %v", sets, want)
	}
}

// A chain whose count is that of no rule is an error, and so is what is no number.
func TestCountersRefused(t *testing.T) {
	for _, text := range []string{"*nat\n[1:2] -A OURS -j DROP\n", "*nat\n:OURS - [x:1]\n", "*nat\n:OURS - [0:0]\n[x:1] -A OURS -j DROP\n"} {
		if c, err := parseCounters(text); err == nil {
			t.Errorf("%q is read as %v", text, c)
		}
	}
}
