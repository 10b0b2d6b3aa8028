package page

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// answer answers with the path that it is asked for.
var answer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer of "+r.URL.RequestURI()) })

// asked returns the answer to a request that came to a local address from a remote one.
func asked(h http.Handler, local, remote, method, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	r.RemoteAddr = remote
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(at)))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	here, near = "127.0.0.1:10249", "127.0.0.1:40000"
	at         = "http://127.0.0.1:10249"
)

// The page has its own files, the answers, and nothing else; it only reads.
func TestRequests(t *testing.T) {
	h := New(Config{Node: "node1", Answers: answer})
	for _, tt := range []struct {
		method, path string
		code         int
		kind, want   string
	}{
		{"GET", "/page/", 200, "text/html; charset=utf-8", "<title>kube-ipvs</title>"},
		{"HEAD", "/page/", 200, "text/html; charset=utf-8", ""},
		{"GET", "/page/page.js", 200, "text/javascript; charset=utf-8", "import "},
		{"GET", "/page/page.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		{"GET", "/page/icon.svg", 200, "image/svg+xml", "<svg"},
		{"GET", "/page/v1alpha1/services?limit=1", 200, "text/plain; charset=utf-8", "answer of /v1alpha1/services?limit=1"},
		{"GET", "/page/index.html", 404, "text/plain; charset=utf-8", "404"},
		{"GET", "/page/page.go", 404, "text/plain; charset=utf-8", "404"},
		{"GET", "/page/static/page.js", 404, "text/plain; charset=utf-8", "404"},
		{"POST", "/page/", 405, "text/plain; charset=utf-8", "Method Not Allowed"},
		{"POST", "/page/v1alpha1/services", 405, "text/plain; charset=utf-8", "Method Not Allowed"},
		{"DELETE", "/page/v1alpha1/services", 405, "text/plain; charset=utf-8", "Method Not Allowed"},
	} {
		w := asked(h, here, near, tt.method, at+tt.path)
		if got := w.Header().Get("Content-Type"); w.Code != tt.code || got != tt.kind || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d %q %.200q; want %d %q %q", tt.method, tt.path, w.Code, got, w.Body, tt.code, tt.kind, tt.want)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
}

// The page is seen by this node alone unless all are admitted, and only where its address is asked for by a name that nobody else
// can make lead here.
func TestGuard(t *testing.T) {
	const forbidden, misdirected = http.StatusForbidden, http.StatusMisdirectedRequest
	for _, tt := range []struct {
		name          string
		all           bool
		local, remote string
		host          string
		site          string // Sec-Fetch-Site
		page, answer  int
	}{
		{"this node", false, here, near, "127.0.0.1:10249", "", 200, 200},
		{"this node by IPv6", false, "[::1]:10249", "[::1]:4000", "[::1]:10249", "", 200, 200},
		{"this node by a mapped address", false, "[::ffff:127.0.0.1]:10249", "[::ffff:127.0.0.1]:4000", "127.0.0.1:10249", "", 200, 200},
		{"a forwarded port", false, here, near, "localhost:8080", "same-origin", 200, 200},
		{"another node", false, "192.168.77.11:10249", "192.168.77.12:4000", "192.168.77.11:10249", "", forbidden, forbidden},
		{"another node, to a loopback address", false, here, "192.168.77.12:4000", "127.0.0.1:10249", "", forbidden, forbidden},
		{"this node, by its own address", false, "192.168.77.11:10249", "192.168.77.11:4000", "192.168.77.11:10249", "", forbidden, forbidden},
		{"another node is admitted", true, "192.168.77.11:10249", "192.168.77.12:4000", "192.168.77.11:10249", "", 200, 200},
		{"by the node's name", true, "192.168.77.11:10249", "192.168.77.12:4000", "Node1:10249", "", 200, 200},
		{"another name leads here", false, here, near, "rebound.example.com:10249", "same-origin", misdirected, misdirected},
		{"another name, all are admitted", true, here, near, "rebound.example.com", "", misdirected, misdirected},
		{"a name that begins like an address", false, here, near, "127.0.0.1.example.com", "", misdirected, misdirected},
		{"no name", false, here, near, "", "", misdirected, misdirected},
		{"a link of another site", false, here, near, "localhost:10249", "cross-site", 200, forbidden},
		{"a script of another port", false, here, near, "localhost:10249", "same-site", 200, forbidden},
		{"typed into the browser", false, here, near, "localhost:10249", "none", 200, 200},
	} {
		h := New(Config{Node: "node1", All: tt.all, Answers: answer})
		for path, want := range map[string]int{"/page/": tt.page, "/page/v1alpha1/overview": tt.answer} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host, r.RemoteAddr = tt.host, tt.remote
			if tt.site != "" {
				r.Header.Set("Sec-Fetch-Site", tt.site)
			}
			local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.local))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local))))
			if w.Code != want || w.Code != 200 && strings.Contains(w.Body.String(), "answer of") {
				t.Errorf("%s: %s: %d %s, want %d", tt.name, path, w.Code, w.Body, want)
			}
		}
	}
}

// A connection that does not tell its ends is not this node's.
func TestGuardWithoutAddress(t *testing.T) {
	w := httptest.NewRecorder()
	New(Config{Answers: answer}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, at+"/page/", nil))
	if w.Code != http.StatusForbidden {
		t.Error(w.Code, w.Body)
	}
}

// A browser asks again whether a file is the same, and keeps no answer.
func TestCaching(t *testing.T) {
	h := New(Config{Answers: answer})
	first := asked(h, here, near, http.MethodGet, at+"/page/page.js")
	tag := first.Header().Get("ETag")
	if again := asked(h, here, near, http.MethodGet, at+"/page/page.js", "If-None-Match", tag); tag == "" || again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("tag %q: %d, %d bytes", tag, again.Code, again.Body.Len())
	}
	if got := first.Header().Get("Cache-Control"); got != "no-cache" {
		t.Errorf("a file: %q", got)
	}
	if got := asked(h, here, near, http.MethodGet, at+"/page/v1alpha1/overview").Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("an answer: %q", got)
	}
}

// So many answers are made at a time; who asks for more is sent away.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		h := New(Config{Answers: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-free })})
		ended := make(chan int)
		for range maxAnswers {
			go func() { ended <- asked(h, here, near, http.MethodGet, at+"/page/v1alpha1/overview").Code }()
		}
		synctest.Wait()
		if w := asked(h, here, near, http.MethodGet, at+"/page/v1alpha1/overview"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("one more: %d", w.Code)
		}
		if w := asked(h, here, near, http.MethodGet, at+"/page/"); w.Code != http.StatusOK {
			t.Errorf("a file meanwhile: %d", w.Code)
		}
		close(free)
		for range maxAnswers {
			if code := <-ended; code != http.StatusOK {
				t.Error(code)
			}
		}
		if w := asked(h, here, near, http.MethodGet, at+"/page/v1alpha1/overview"); w.Code != http.StatusOK {
			t.Errorf("afterwards: %d", w.Code)
		}
	})
}

// The files name each other, and nothing outside; they make elements from no text, and have no inline script or style.
func TestFiles(t *testing.T) {
	files, err := static.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, f := range files {
		text, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		total += len(text)
		for what, pattern := range map[string]string{
			"a name outside":            `(?i)(https?:)?//[a-z0-9]`,
			"elements from a text":      `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|eval\(|new Function`,
			"a handler in an attribute": `(?i)\son[a-z]+=`,
			"an inline style":           `(?i)<style|\sstyle=`,
			"an inline script":          `(?i)<script(>| [^>]*>[^<])`,
		} {
			for _, found := range regexp.MustCompile(pattern).FindAllString(string(text), -1) {
				if line := fmt.Sprint(f.Name(), ": ", found); found != "http://w" { // SVG's namespace, which is no address
					t.Errorf("%s has %s", line, what)
				}
			}
		}
	}
	if total > 50_000 {
		t.Errorf("%d bytes", total)
	}
}
