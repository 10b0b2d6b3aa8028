package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestListenAtLoopback asks where the probes of deploy/ do, 127.0.0.1: it answers for all addresses of either family, too.
func TestListenAtLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		t.Run(address, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			free := netip.MustParseAddrPort(l.Addr().String())
			l.Close()
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			at := netip.AddrPortFrom(netip.MustParseAddr(address), free.Port())
			go func() { ended <- listen(ctx, at, false, http.NotFoundHandler(), func(err error) { t.Log(err) }) }()
			awaitAnswer(t, free)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitAnswer waits until something answers by HTTP.
func awaitAnswer(t *testing.T, at netip.AddrPort) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		resp, err := client.Get("http://" + at.String())
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
	}
}

func TestProfile(t *testing.T) {
	mux := http.NewServeMux()
	handleProfiles(mux)
	for path, want := range map[string]string{
		"/debug/pprof/":                   "goroutine",
		"/debug/pprof/heap?gc=1&debug=1":  "# HeapAlloc = ",
		"/debug/pprof/cmdline":            "kube-ipvs",
		"/debug/pprof/goroutine?debug=1":  "goroutine profile: total",
		"/debug/pprof/profile?seconds=1":  "", // compressed
		"/debug/pprof/trace?seconds=0.01": "go 1.",
	} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s: %d, %.200q, want %q", path, answer.Code, answer.Body.String(), want)
		}
	}
}
