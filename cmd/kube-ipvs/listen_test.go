package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
