//go:build cluster

package plugin_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

// testSPDY: where a proxy lets no WebSockets pass, the older protocol is taken.
func testSPDY(t *testing.T, w *world) {
	to, err := url.Parse(w.URL())
	must(t, err)
	keys, err := rest.TLSConfigFor(w.viewer.Config()) // the proxy shows the viewer's certificate
	must(t, err)
	var refused, passed atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{TLSClientConfig: keys}, // HTTP/1.1: the older protocol is an upgrade of it
	}
	front := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch upgrade := strings.ToLower(r.Header.Get("Upgrade")); {
		case upgrade == "websocket":
			refused.Add(1)
			http.Error(out, "no WebSockets here", http.StatusForbidden)
			return
		case strings.HasPrefix(upgrade, "spdy"):
			passed.Add(1)
		}
		proxy.ServeHTTP(out, r)
	}))
	defer front.Close()
	out, problems, code := w.run(t, "get", "--node", "node1", "--server", front.URL)
	if code != 0 || !strings.Contains(out, "web") {
		t.Errorf("exit status %d:\n%s%s", code, out, problems)
	}
	if refused.Load() != 1 || passed.Load() != 1 {
		t.Errorf("%d WebSockets refused, %d of the older protocol passed, want 1 and 1", refused.Load(), passed.Load())
	}
}
