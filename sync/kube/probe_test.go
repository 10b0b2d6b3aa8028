package kube

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A probe tells the clock's skew, and the cluster IPs at which the server is reached, of servers with and without ServiceCIDRs.
func TestProbe(t *testing.T) {
	const service = `{"kind":"ServiceList","apiVersion":"v1","items":[{"metadata":{"name":"kubernetes"},"spec":{"clusterIPs":["10.96.0.1","fd00::1"]}}]}`
	for _, tt := range []struct {
		name   string
		ahead  time.Duration
		ranges string
		want   []string
	}{
		{"of today", 0, `{"kind":"ServiceCIDRList","apiVersion":"networking.k8s.io/v1","items":[{"spec":{"cidrs":["10.96.0.0/12"]}}]}`, []string{"10.96.0.0/12"}},
		{"old, and ahead", time.Hour, "", nil},
		{"behind", -time.Hour, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat))
				w.Header().Set("Content-Type", "application/json")
				text := map[string]string{
					"/version": `{"gitVersion":"v1.37.0"}`, "/api/v1/namespaces/default/services": service, "/apis/networking.k8s.io/v1/servicecidrs": tt.ranges,
				}[r.URL.Path]
				if text == "" {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(text))
			}))
			defer server.Close()
			p, err := (Connection{Master: server.URL}).Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var ranges []string
			for _, r := range p.Ranges {
				ranges = append(ranges, r.String())
			}
			if !slices.Equal(p.ServiceIPs, []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")}) || !slices.Equal(ranges, tt.want) || p.Version != "v1.37.0" {
				t.Errorf("%+v", p)
			}
			if off := (p.Skew - tt.ahead).Abs(); off > 2*time.Second {
				t.Errorf("skew %v, want %v", p.Skew, tt.ahead)
			}
		})
	}
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if _, err := (Connection{Master: server.URL}).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody answers: %v", err)
	}
}

// An answer's date is cut to seconds: a clock within that doubt agrees.
func TestSkew(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name       string
		begin, end time.Duration // of the request, by our clock, after the date
		want       time.Duration
	}{
		{"the same second", 300 * time.Millisecond, 400 * time.Millisecond, 0},
		{"a long request", -time.Second, 3 * time.Second, 0},
		{"ahead of ours", -5 * time.Second, -4 * time.Second, 4 * time.Second},
		{"behind ours", 8 * time.Second, 9 * time.Second, -7 * time.Second},
	} {
		var c clock
		if c.note(at, at.Add(tt.begin), at.Add(tt.end)); c.skew() != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, c.skew(), tt.want)
		}
	}
}
