package see

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"kube-ipvs/sync/status"
)

// The author of an EndpointSlice names its pods as he likes: the API server does not look at the name. A terminal obeys none of it, and
// it makes no line of its own.
func TestHostileNames(t *testing.T) {
	const hostile = "\x1b[2J\x1b]0;owned\x07web\nkube-system\tdns\u202e\u009b\xff"
	s := see(t)
	s.pods = map[netip.Addr]string{}
	for n := range byte(100) {
		s.pods[netip.AddrFrom4([4]byte{10, 244, 1, n})] = hostile
	}
	for _, args := range []string{"get endpoints default/echo", "explain default/echo", "explain 10.96.10.1:6711", "top default/echo --interval 1ms"} {
		run := func() string {
			var out, errs bytes.Buffer
			if code := program(t.Context(), append(strings.Fields(args), "--socket", s.socket), &out, &errs); code != 0 {
				t.Fatalf("%s: %d %s", args, code, &errs)
			}
			return out.String()
		}
		got := run()
		harmless(t, args, got)
		pods := s.pods
		s.pods = nil
		if want := run(); strings.Count(got, "\n") != strings.Count(want, "\n") {
			t.Errorf("%s: %q has other lines than %q", args, got, want)
		}
		s.pods = pods
	}
}

// harmless looks for what a terminal obeys.
func harmless(t *testing.T, name, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%s: %q at %d of %q", name, text[i:i+1], i, text)
	}
}

// So do the texts of Services and nodes beside the tables.
func TestHostileTextsInTerminals(t *testing.T) {
	const hostile = "\x1b[2Jweb\nFrom outside: delivered"
	x := status.Explanation{
		Address: "10.96.0.1:80/tcp", Service: "a/web", Reason: hostile, Problems: []string{hostile},
		Ways:   []status.Way{{Origin: "pod", Outcome: hostile, Steps: []status.Step{{Text: hostile, Command: hostile}}}},
		Others: []status.Idle{{Reason: hostile}},
	}
	for name, print := range map[string]func(*bytes.Buffer) error{
		"explain":         func(out *bytes.Buffer) error { return printExplanation(out, x, false) },
		"explain --short": func(out *bytes.Buffer) error { return printExplanation(out, x, true) },
		"top": func(out *bytes.Buffer) error {
			return printRates(out, status.List[status.Rate]{Uncounted: hostile}, false)
		},
		"status": func(out *bytes.Buffer) error {
			return printStatus(out, "", 0, status.ClusterStatus{
				Nodes: []status.NodeStatus{{Name: "n", State: status.NotReady, Reason: hostile}}, NotCompared: []string{hostile},
				Disagreements: []status.Disagreement{{Nodes: []string{hostile}, Than: hostile}},
			})
		},
	} {
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Error(name, err)
		}
		harmless(t, name, out.String())
		if strings.Contains(out.String(), "\nFrom outside") {
			t.Errorf("%s: a line of its own in %q", name, &out)
		}
	}
}
