//go:build cluster

package plugin_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

// testProtocols: WebSockets are taken, and the older protocol where a proxy lets none pass.
func testProtocols(t *testing.T, w *world) {
	to, err := url.Parse(w.URL())
	must(t, err)
	keys, err := rest.TLSConfigFor(w.viewer.Config()) // the proxy shows the viewer's certificate
	must(t, err)
	for _, tt := range []struct {
		name    string
		refuses bool // WebSockets
		want    []string
	}{
		{"a proxy that lets all pass", false, []string{"websocket"}},
		{"a proxy that lets no WebSockets pass", true, []string{"websocket", "spdy/3.1"}},
	} {
		var mu sync.Mutex
		var upgrades []string
		proxy := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport: &http.Transport{TLSClientConfig: keys}, // HTTP/1.1, of which both are upgrades
		}
		front := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			upgrade := strings.ToLower(r.Header.Get("Upgrade"))
			if upgrade != "" {
				mu.Lock()
				upgrades = append(upgrades, upgrade)
				mu.Unlock()
			}
			if upgrade == "websocket" && tt.refuses {
				http.Error(out, "no WebSockets here", http.StatusForbidden)
				return
			}
			proxy.ServeHTTP(out, r)
		}))
		out, problems, code := w.run(t, "get", "--node", "node1", "--server", front.URL)
		front.Close()
		if code != 0 || !strings.Contains(out, "web") {
			t.Errorf("%s: exit status %d:\n%s%s", tt.name, code, out, problems)
		}
		if diff := cmp.Diff(tt.want, upgrades); diff != "" {
			t.Errorf("%s: protocols (-want +got):\n%s", tt.name, diff)
		}
	}
}
