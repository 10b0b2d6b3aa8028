//go:build kernel

package kernel

import (
	"context"
	"errors"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
)

func TestIptablesLegacy(t *testing.T) { iptablesConforms(t, "legacy", "nft") }

// iptablesConforms uses the kind of iptables that kubelet's hint names, and looks that nothing is made in the other: not
// even an empty table, which every packet would have to pass.
func iptablesConforms(t *testing.T, kind, other string) {
	ipsetNamespace(t)
	ipsetRun(t, "iptables-"+kind, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
	p, err := iptables.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Variant() != kind {
		t.Fatalf("took iptables-%s, want %s", p.Variant(), kind)
	}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		iptablesNoticed(t, p, f)
		if saved := vipShell(t, "iptables-"+other+"-save; ip6tables-"+other+"-save"); strings.Contains(saved, "*") {
			t.Errorf("%v: iptables-%s has tables now:\n%s", f, other, saved)
		}
	}
}

// iptablesNoticed makes a ruleset, lets others change it in the ways that there are, and looks whether that is seen.
func iptablesNoticed(t *testing.T, p *iptables.Programs, f inet.Family) {
	t.Helper()
	ctx := context.Background()
	rules := iptables.Ruleset{
		Family: f,
		Chains: []iptables.Chain{
			{Table: "mangle", Name: "KIPVS-FIRST", Rules: []string{"-i lo -j RETURN", "-o lo -j KIPVS-SECOND"}},
			{Table: "mangle", Name: "KIPVS-SECOND", Rules: []string{"-o lo -j ACCEPT"}},
		},
		Jumps: []iptables.Jump{{Table: "mangle", From: "OUTPUT", To: "KIPVS-FIRST"}},
	}
	program := map[inet.Family]string{inet.IPv4: "iptables-", inet.IPv6: "ip6tables-"}[f] + p.Variant() + " -t mangle "
	for _, hand := range []string{
		"-F KIPVS-SECOND", "-F", "-D OUTPUT -j KIPVS-FIRST", "-A KIPVS-FIRST -j ACCEPT", "-D KIPVS-FIRST 1", "-I OUTPUT -g KIPVS-SECOND",
		"-F; " + program + "-X",
	} {
		if err := p.Ensure(ctx, rules); err != nil {
			t.Fatal(err)
		}
		before, err := p.Trace(ctx, f)
		again, err2 := p.Trace(ctx, f)
		stands, err3 := p.Stands(ctx, f)
		if err := errors.Join(err, err2, err3); err != nil || before != again || !stands {
			t.Errorf("%v: made rules have traces %q and %q, stand: %t, %v", f, before, again, stands, err)
		}
		vipShell(t, program+hand)
		after, err := p.Trace(ctx, f)
		stands, err2 = p.Stands(ctx, f)
		if err := errors.Join(err, err2); err != nil || before == after || stands {
			t.Errorf("%v: %s is not seen: trace %q, stand: %t, %v", f, hand, after, stands, err)
		}
	}
	if err := p.Remove(ctx, f); err != nil {
		t.Fatal(err)
	}
	if saved := vipShell(t, strings.Replace(program, " ", "-save ", 1)); strings.Contains(saved, "KIPVS") {
		t.Errorf("%v: removed, but there is\n%s", f, saved)
	}
}
