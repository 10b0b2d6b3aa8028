package status

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A query survives its way through a URL.
func TestQuery(t *testing.T) {
	for _, q := range []Query{
		{Limit: MaxLimit},
		{Namespace: "a", Service: "web", Loads: true, Limit: 7, Continue: "a/b"},
		{Groups: []int{1, 5}, Settled: 90 * time.Second, Limit: 1},
		{Limit: 50, Skip: 100, Search: "10.96.0.1", Only: Troubled},
		{To: "[fd00::1]:53/udp", From: netip.MustParseAddr("fd00::2"), Limit: 1},
	} {
		got, err := ParseQuery(q.Values())
		if diff := cmp.Diff(q, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"10.96.0.1:80", "10.96.0.1:80/tcp"},
		{"[fd00::1]:53/UDP", "[fd00::1]:53/udp"},
		{"10.96.0.1:80/sctp", "10.96.0.1:80/sctp"},
		{"[::ffff:10.96.0.1]:80", "10.96.0.1:80/tcp"},
		{"10.96.0.1", ""}, {"10.96.0.1:0", ""}, {"10.96.0.1:80/", ""}, {"10.96.0.1:80/icmp", ""}, {"[fe80::1%eth0]:80", ""}, {"web:80", ""},
	} {
		a, err := ParseAddress(tt.text)
		if got := a.String(); (err != nil) != (tt.want == "") || err == nil && got != tt.want {
			t.Errorf("%s: %s %v, want %q", tt.text, got, err, tt.want)
		}
	}
}
