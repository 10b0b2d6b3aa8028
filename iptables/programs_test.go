package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What somebody removes while the rules are made is not taken for what is to stand.
func TestRemovedWhileMade(t *testing.T) {
	rules := Ruleset{
		Family: IPv4,
		Chains: []Chain{{Table: "nat", Name: "KIPVS-POSTROUTING", Rules: []string{"-s 192.0.2.1 -j ACCEPT"}}},
		Jumps:  []Jump{{Table: "nat", From: "POSTROUTING", To: "KIPVS-POSTROUTING"}},
	}
	const whole = "*nat\n:KIPVS-POSTROUTING - [0:0]\n-A POSTROUTING -j KIPVS-POSTROUTING\n-A KIPVS-POSTROUTING -s 192.0.2.1/32 -j ACCEPT\nCOMMIT\n"
	without := func(line string) string { return strings.Replace(whole, line+"\n", "", 1) }
	for _, tt := range []struct{ name, left, want string }{
		{"nothing", whole, ""},
		{"a jump", without("-A POSTROUTING -j KIPVS-POSTROUTING"), "iptables -t nat -I POSTROUTING -j KIPVS-POSTROUTING"},
		{"a rule", without("-A KIPVS-POSTROUTING -s 192.0.2.1/32 -j ACCEPT"), "had 0 rules as soon as it was made with 1"},
		{"everything", "*nat\nCOMMIT\n", "gone as soon as it was made"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			saved := whole // before: all of it stands
			p := programs("", func(_ context.Context, _, name string, _ ...string) (string, error) {
				if strings.HasSuffix(name, "-restore") {
					saved = tt.left
				}
				return saved, nil
			})
			err := p.Ensure(t.Context(), rules)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Ensure: %v, want %q", err, tt.want)
			}
			if stands, err := p.Stands(t.Context(), IPv4); tt.want == "" && (err != nil || !stands) {
				t.Errorf("Stands: %v, %v", stands, err)
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
