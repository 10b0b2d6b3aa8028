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
	if p.Backend() != kind {
		t.Fatalf("took iptables-%s, want %s", p.Backend(), kind)
	}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		iptablesNoticed(t, p, f)
		if saved := steerShell(t, "iptables-"+other+"-save; ip6tables-"+other+"-save"); strings.Contains(saved, "*") {
			t.Errorf("%v: iptables-%s has tables now:\n%s", f, other, saved)
		}
	}
}

// iptablesNoticed makes a ruleset, lets others change it in the ways that there are, and looks whether that is seen.
func iptablesNoticed(t *testing.T, p *iptables.Commands, f inet.Family) {
	t.Helper()
	ctx := context.Background()
	rules := iptables.Ruleset{
		Family: f,
		Chains: []iptables.Chain{
			{Table: "mangle", Name: "KIPVS-FIRST", Rules: []string{"-i lo -j RETURN", "-o lo -j KIPVS-SECOND"}},
			{Table: "mangle", Name: "KIPVS-SECOND", Rules: []string{"-o lo -j ACCEPT"}},
		},
		Jumps: []iptables.Jump{
			{Table: "mangle", From: "OUTPUT", To: "KIPVS-FIRST"},
			{Table: "mangle", From: "INPUT", To: "KIPVS-SECOND", Match: "-m conntrack ! --ctstate RELATED,ESTABLISHED", Last: true},
			{Table: "mangle", From: "INPUT", To: "KIPVS-SECOND", Match: "-m connmark --mark 0x10/0x10", Last: true},
		},
	}
	program := map[inet.Family]string{inet.IPv4: "iptables-", inet.IPv6: "ip6tables-"}[f] + p.Backend() + " -t mangle "
	for _, hand := range []string{
		"-F KIPVS-SECOND", "-F", "-D OUTPUT -j KIPVS-FIRST", "-D INPUT -m connmark --mark 0x10/0x10 -j KIPVS-SECOND", "-A KIPVS-FIRST -j ACCEPT", "-D KIPVS-FIRST 1", "-I OUTPUT -g KIPVS-SECOND",
		"-F; " + program + "-X",
	} {
		if err := p.Ensure(ctx, rules); err != nil {
			t.Fatal(err)
		}
		before, err := p.Fingerprint(ctx, f)
		again, err2 := p.Fingerprint(ctx, f)
		inSync, err3 := p.InSync(ctx, f)
		if err := errors.Join(err, err2, err3); err != nil || before != again || !inSync {
			t.Errorf("%v: made rules have fingerprints %q and %q, in sync: %t, %v", f, before, again, inSync, err)
		}
		steerShell(t, program+hand)
		after, err := p.Fingerprint(ctx, f)
		inSync, err2 = p.InSync(ctx, f)
		if err := errors.Join(err, err2); err != nil || before == after || inSync {
			t.Errorf("%v: %s is not seen: fingerprint %q, in sync: %t, %v", f, hand, after, inSync, err)
		}
	}
	if err := p.Remove(ctx, f); err != nil {
		t.Fatal(err)
	}
	if saved := steerShell(t, strings.Replace(program, " ", "-save ", 1)); strings.Contains(saved, "KIPVS") {
		t.Errorf("%v: removed, but there is\n%s", f, saved)
	}
}
