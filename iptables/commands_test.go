package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What somebody removes while the rules are made is not taken for what is to stand.
func TestRemovedWhileMade(t *testing.T) {
	rules := Ruleset{
		Family: inet.IPv4,
		Chains: []Chain{{Table: "nat", Name: "KIPVS-POSTROUTING", Rules: []string{"-s 192.0.2.1 -j ACCEPT"}}},
		Jumps:  []Jump{{Table: "nat", From: "POSTROUTING", To: "KIPVS-POSTROUTING"}},
	}
	const whole = "*nat\n:KIPVS-POSTROUTING - [0:0]\n-A POSTROUTING -j KIPVS-POSTROUTING\n-A KIPVS-POSTROUTING -s 192.0.2.1/32 -j ACCEPT\nCOMMIT\n"
	without := func(line string) string { return strings.Replace(whole, line+"\n", "", 1) }
	for _, tt := range []struct{ name, left, want string }{
		{"nothing", whole, ""},
		{"a jump", without("-A POSTROUTING -j KIPVS-POSTROUTING"), "iptables -t nat -I POSTROUTING -j KIPVS-POSTROUTING"},
		{"a rule", without("-A KIPVS-POSTROUTING -s 192.0.2.1/32 -j ACCEPT"), "had 0 rules right after it was made with 1"},
		{"everything", "*nat\nCOMMIT\n", "missing right after it was made"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			saved := whole // before: all of it inSync
			p := commands("", true, func(_ context.Context, _, name string, _ ...string) (string, error) {
				if strings.HasSuffix(name, "-restore") {
					saved = tt.left
				}
				return saved, nil
			})
			err := p.Ensure(t.Context(), rules)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Ensure: %v, want %q", err, tt.want)
			}
			if inSync, err := p.InSync(t.Context(), inet.IPv4); tt.want == "" && (err != nil || !inSync) {
				t.Errorf("InSync: %v, %v", inSync, err)
			}
		})
	}
}

// A program that hangs ends with its context, and so does one that left its output to a child.
func TestHungProgram(t *testing.T) {
	for name, script := range map[string]string{
		"the program": `exec cat "$0"`,
		"its child":   `cat "$0" & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := unix.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				_, err := run(ctx, "", "sh", "-c", script, pipe)
				ended <- err
			}()
			w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // opens when cat reads
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("run: %v, want what ended it", err)
			}
			if err := w.Close(); err != nil { // ends the child
				t.Fatal(err)
			}
		})
	}
}

// A host has both kinds of iptables, and kernel tables for both.
type host struct {
	nft, legacy string // what each has, as iptables-save prints it
	byDefault   string // "nft" or "legacy"
	restored    []string
}

func (h *host) run(_ context.Context, stdin, name string, arg ...string) (string, error) {
	tables := map[string]*string{"nft": &h.nft, "legacy": &h.legacy}
	kind := h.byDefault
	for k := range tables {
		if strings.Contains(name, k) {
			kind = k
		}
	}
	switch {
	case slices.Equal(arg, []string{"--version"}):
		return "iptables v1.8.9 (" + strings.Replace(kind, "nft", "nf_tables", 1) + ")\n", nil
	case strings.HasSuffix(name, "-save") && arg == nil:
		return *tables[kind], nil
	case strings.HasSuffix(name, "-restore") && stdin != probe:
		h.restored = append(h.restored, kind+" "+strings.ReplaceAll(stdin, "\n", ";"))
	case !strings.HasSuffix(name, "-restore"):
		return "", fmt.Errorf("%s %v makes tables that nobody wants", name, arg)
	}
	return "", nil
}

// A hint of kubelet's decides, or else what the node calls iptables.
func TestOpen(t *testing.T) {
	const hint, canary = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n", "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
	for _, tt := range []struct {
		h    host
		want string
	}{
		{host{byDefault: "nft"}, "nft"},
		{host{byDefault: "legacy"}, "legacy"},
		{host{byDefault: "legacy", nft: hint}, "nft"},
		{host{byDefault: "nft", legacy: canary}, "legacy"},
		{host{byDefault: "legacy", nft: hint, legacy: hint}, "nft"},
	} {
		p, err := open(t.Context(), tt.h.run)
		if err != nil {
			t.Fatal(err)
		}
		if p.Backend() != tt.want {
			t.Errorf("%+v: %s, want %s", tt.h, p.Backend(), tt.want)
		}
	}
}

// What an earlier run left in the iptables that this node does not use any more goes, and nothing else there.
func TestTheOtherIptables(t *testing.T) {
	const (
		left    = "*nat\n:POSTROUTING ACCEPT [0:0]\n:CNI - [0:0]\n:KIPVS-POSTROUTING - [0:0]\n-A POSTROUTING -j CNI\n-A POSTROUTING -j KIPVS-POSTROUTING\nCOMMIT\n"
		removed = "*nat;:KIPVS-POSTROUTING - [0:0];-D POSTROUTING -j KIPVS-POSTROUTING;-X KIPVS-POSTROUTING;COMMIT;"
	)
	for kind, other := range map[string]string{"nft": "legacy", "legacy": "nft"} {
		h := &host{byDefault: kind, nft: left, legacy: left}
		p, err := open(t.Context(), h.run)
		if err != nil {
			t.Fatal(err)
		}
		nothing := Ruleset{Family: inet.IPv4}
		if err := errors.Join(p.Ensure(t.Context(), nothing), p.Remove(t.Context(), inet.IPv4)); err != nil {
			t.Fatal(err)
		}
		want := []string{kind + " " + removed, other + " " + removed, kind + " " + removed, other + " " + removed}
		if diff := cmp.Diff(want, h.restored); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}

// What iptables 1.8.9 printed on Linux 6.1 after "nft add chain ip filter NATIVE { type filter hook input priority 10; }",
// and after "nft add rule ip filter INPUT ct state vmap { established : accept }".
const (
	readable = "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n*filter\nCOMMIT\n"
	hidden   = "# Table `filter' is incompatible, use 'nft' tool.\n*nat\nCOMMIT\n"
)

// Nothing is put into a table that cannot be read: it would be put in once more with every attempt.
func TestTableThatIptablesCannotRead(t *testing.T) {
	for saved, refused := range map[string]bool{
		readable: false, hidden: true,
		strings.ReplaceAll(hidden, "filter", "raw"): true, strings.ReplaceAll(hidden, "filter", "security"): false,
	} {
		h := &host{byDefault: "nft", nft: saved}
		p, err := open(t.Context(), h.run)
		if err != nil {
			t.Fatal(err)
		}
		rules := Ruleset{Family: inet.IPv4, Chains: []Chain{{Table: "filter", Name: "KIPVS-INPUT"}}}
		if err := p.Ensure(t.Context(), rules); (err != nil) != refused || refused != (h.restored == nil) {
			t.Errorf("%s: Ensure: %v, and made %q", saved, err, h.restored)
		}
	}
}
