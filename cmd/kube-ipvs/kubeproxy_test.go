package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"kube-ipvs/internal/config"
)

// A kube-proxy is known by what it answers, also by its health alone; others are none.
func TestFindKubeProxy(t *testing.T) {
	const healthy = `{"lastUpdated": "2026-01-01 00:00:00 +0000 UTC","currentTime": "2026-01-01 00:00:01 +0000 UTC", "nodeEligible": true}`
	for _, tt := range []struct {
		name, path, body string
		status           int
		want             string // mode; "none"
	}{
		{"by its mode", "/proxyMode", "nftables", 200, "nftables"},
		{"by its health", "/healthz", healthy, 200, ""},
		{"though it is not healthy", "/healthz", healthy, 503, ""},
		{"another program", "/healthz", "ok", 200, "none"},
		{"a proxy in a mode of its own", "/proxyMode", "ebpf", 200, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != tt.path {
					http.NotFound(w, r)
					return
				}
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			defer server.Close()
			at := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))
			got := findKubeProxy(t.Context(), &config.Config{Metrics: netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())})
			if tt.want == "none" {
				if got.at.IsValid() {
					t.Errorf("found %v", got)
				}
				return
			}
			if got.at != at || got.mode != tt.want {
				t.Errorf("found %+v, want mode %q at %v", got, tt.want, at)
			}
		})
	}
}

func TestHasSynced(t *testing.T) {
	const name = "kubeproxy_sync_proxy_rules_duration_seconds_count"
	for metrics, want := range map[string]bool{
		"": false,
		"# TYPE " + name + " counter\n" + name + " 0\n": false,
		name + " 1\n": false,
		name + " 2\n": true,
		name + "{ip_family=\"IPv4\"} 1\n" + name + "{ip_family=\"IPv6\"} 0\n":          false,
		name + "{ip_family=\"IPv4\"} 1\n" + name + "{ip_family=\"IPv6\"} 1\nother 5\n": true,
	} {
		if got := hasSynced(metrics); got != want {
			t.Errorf("%v of %q", got, metrics)
		}
	}
}

// Nothing is removed while kube-proxy serves: the message names the command that gives the node back.
func TestCleanupRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ipvs")) }))
	defer server.Close()
	err := clean(t.Context(), &config.Config{Metrics: netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "kube-proxy runs on this node in mode ipvs") || !strings.Contains(err.Error(), "kube-ipvs hand-back ipvs") {
		t.Errorf("%v", err)
	}
}
