package iptables

import (
	"context"
	"errors"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
)

// Repairs names what differs and nothing else, and only reads.
func TestRepairs(t *testing.T) {
	rules := Ruleset{
		Family: inet.IPv4,
		Chains: []Chain{
			{Table: "mangle", Name: "KIPVS-GUARD", Rules: []string{"-s 0.0.0.0/0 -j RETURN", "-j DROP"}},
			{Table: "filter", Name: "KIPVS-INPUT", Rules: []string{"-p tcp -j KIPVS-LOCAL", "-j ACCEPT"}},
			{Table: "filter", Name: "KIPVS-LOCAL", Rules: []string{"-j REJECT"}},
		},
		Jumps: []Jump{
			{Table: "filter", From: "INPUT", To: "KIPVS-INPUT", Behind: []string{"cali-INPUT"}},
			{Table: "filter", From: "OUTPUT", To: "KIPVS-LOCAL", Last: true},
		},
	}
	const whole = `*mangle
:KIPVS-GUARD - [0:0]
-A KIPVS-GUARD -j RETURN
-A KIPVS-GUARD -j DROP
COMMIT
*filter
:KIPVS-INPUT - [0:0]
:KIPVS-LOCAL - [0:0]
-A INPUT -j KIPVS-INPUT
-A OUTPUT -j KIPVS-LOCAL
-A KIPVS-INPUT -p tcp -j KIPVS-LOCAL
-A KIPVS-INPUT -j ACCEPT
-A KIPVS-LOCAL -j REJECT --reject-with icmp-port-unreachable
COMMIT
`
	nft := func(input string) string {
		return "iptables-nft-restore --noflush <<EOF\n" + input + "EOF\n"
	}
	for _, tt := range []struct {
		name     string
		old, new string // of whole
		legacy   string // rules in the other backend
		want     string
	}{
		{name: "nothing"},
		{name: "a rule is gone", old: "-A KIPVS-INPUT -j ACCEPT\n", want: nft("*filter\n:KIPVS-INPUT - [0:0]\n-A KIPVS-INPUT -p tcp -j KIPVS-LOCAL\n-A KIPVS-INPUT -j ACCEPT\nCOMMIT\n")},
		{name: "a rule more", old: "-A KIPVS-GUARD -j DROP", new: "-A KIPVS-GUARD -j ACCEPT\n-A KIPVS-GUARD -j DROP",
			want: nft("*mangle\n:KIPVS-GUARD - [0:0]\n-A KIPVS-GUARD -s 0.0.0.0/0 -j RETURN\n-A KIPVS-GUARD -j DROP\nCOMMIT\n")},
		{name: "another type of rejection", old: "icmp-port-unreachable", new: "icmp-host-prohibited", want: nft("*filter\n:KIPVS-LOCAL - [0:0]\n-A KIPVS-LOCAL -j REJECT\nCOMMIT\n")},
		{name: "a rule with more conditions", old: "-A KIPVS-INPUT -j ACCEPT", new: "-A KIPVS-INPUT -j ACCEPT -m comment", want: nft("*filter\n:KIPVS-INPUT - [0:0]\n-A KIPVS-INPUT -p tcp -j KIPVS-LOCAL\n-A KIPVS-INPUT -j ACCEPT\nCOMMIT\n")},
		{name: "a jump is gone", old: "-A OUTPUT -j KIPVS-LOCAL\n", want: nft("*filter\n-A OUTPUT -j KIPVS-LOCAL\nCOMMIT\n")},
		{name: "a jump is before others", old: "-A INPUT -j KIPVS-INPUT\n", new: "-A INPUT -j KIPVS-INPUT\n-A INPUT -j cali-INPUT\n",
			want: nft("*filter\n-D INPUT -j KIPVS-INPUT\n-I INPUT 2 -j KIPVS-INPUT\nCOMMIT\n")},
		{name: "a chain is gone", old: "*mangle\n:KIPVS-GUARD - [0:0]\n-A KIPVS-GUARD -j RETURN\n-A KIPVS-GUARD -j DROP\nCOMMIT\n",
			want: nft("*mangle\n:KIPVS-GUARD - [0:0]\n-A KIPVS-GUARD -s 0.0.0.0/0 -j RETURN\n-A KIPVS-GUARD -j DROP\nCOMMIT\n")},
		{name: "a chain of an earlier version", old: ":KIPVS-LOCAL - [0:0]\n", new: ":KIPVS-LOCAL - [0:0]\n:KIPVS-OLD - [0:0]\n",
			want: nft("*filter\n:KIPVS-OLD - [0:0]\n-X KIPVS-OLD\nCOMMIT\n")},
		{name: "rules of another life in the other backend", legacy: "*filter\n:KIPVS-INPUT - [0:0]\n-A INPUT -j KIPVS-INPUT\nCOMMIT\n",
			want: "iptables-legacy-restore --noflush <<EOF\n*filter\n:KIPVS-INPUT - [0:0]\n-D INPUT -j KIPVS-INPUT\n-X KIPVS-INPUT\nCOMMIT\nEOF\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			saved := strings.Replace(whole, tt.old, tt.new, 1)
			if tt.old != "" && saved == whole {
				t.Fatalf("%q is not in the rules", tt.old)
			}
			p := commands("-nft", true, func(_ context.Context, _, name string, _ ...string) (string, error) {
				switch name {
				case "iptables-nft-save":
					return saved, nil
				case "iptables-legacy-save":
					return tt.legacy, nil
				}
				return "", errors.New("not a read: " + name)
			})
			repairs, err := p.Repairs(t.Context(), rules)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, r := range repairs {
				got.WriteString(r.String() + "\n")
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Without a hint, and without a write, the node's default is taken, or else a backend that can be read.
func TestFoundByReading(t *testing.T) {
	for _, tt := range []struct{ name, version, unreadable, want string }{
		{"the default", "iptables v1.8.9 (nf_tables)", "", "nft"},
		{"the default is legacy", "iptables v1.8.9 (legacy)", "", "legacy"},
		{"the default cannot be read", "iptables v1.8.9 (nf_tables)", "iptables-save iptables-nft-save", "legacy"},
	} {
		run := func(_ context.Context, stdin, name string, arg ...string) (string, error) {
			switch {
			case stdin != "" || strings.HasSuffix(name, "-restore"):
				t.Errorf("%s: %s writes", tt.name, name)
			case len(arg) > 0 && arg[0] == "--version":
				return tt.version, nil
			case strings.Contains(tt.unreadable, name):
				return "", errors.New("unreadable")
			}
			return "", nil
		}
		p, err := findByReading(t.Context(), run)
		if err != nil || p.Backend() != tt.want {
			t.Errorf("%s: %v, %v", tt.name, p, err)
		}
	}
}
