// Package page serves a page for a browser that shows a node: files without any content of the node, which ask for it as JSON.
//
// The page has no rights of its own and no secret, so it is guarded against being read by the wrong browser: by others than this
// node's, unless they are admitted; through a name that somebody else made lead here (DNS rebinding); and from the pages of
// others, which also cannot embed it. Texts of Services' authors are shown as text: the policy forbids inline scripts and styles,
// all sources but this one, and, by Trusted Types, to make elements from text.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"
)

//go:embed static
var static embed.FS

// Path is the path of the page, below which all its requests are.
const Path = "/page/"

// A Config configures the page.
type Config struct {
	Node    string       // this node's name, by which browsers may ask for the page
	All     bool         // whoever reaches the address may see it; else only this node, and what is forwarded to its loopback address
	Answers http.Handler // of requests below /v1alpha1/, see sync/status
}

const (
	// maxAnswers bounds the answers that are made at a time.
	maxAnswers = 8
	// writeLimit bounds the time until a browser has taken an answer.
	writeLimit = time.Minute
)

// policy allows the page's own files and requests, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are the media types of the files; those of a node's own list may differ.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// New returns the handler of everything below Path.
func New(cfg Config) http.Handler {
	mux := http.NewServeMux()
	files, err := static.ReadDir("static")
	if err != nil {
		panic(err) // the files are a part of the program
	}
	for _, f := range files {
		name, at := f.Name(), Path+f.Name()
		if name == "index.html" {
			at = Path + "{$}"
		}
		text, err := static.ReadFile("static/" + name)
		if err != nil {
			panic(err)
		}
		mux.Handle("GET "+at, file(name, text))
	}
	mux.Handle("GET "+Path+"v1alpha1/", http.StripPrefix(strings.TrimSuffix(Path, "/"), bounded(cfg.Answers)))
	return guarded(cfg, mux)
}

// file serves a file. Browsers keep it, and ask whether it is the same.
func file(name string, text []byte) http.HandlerFunc {
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(text))[:16])
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", types[path.Ext(name)])
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text))
	}
}

// bounded serves so many requests at a time, to this page's own scripts.
func bounded(answers http.Handler) http.HandlerFunc {
	slots := make(chan struct{}, maxAnswers)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
			http.Error(w, "the page of another site asks", http.StatusForbidden)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at a time", http.StatusServiceUnavailable)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit)) // a test's recorder has none
		answers.ServeHTTP(w, r)
	}
}

// guarded rejects requests of browsers that must not see the page, and sets the headers that restrict the others.
func guarded(cfg Config, next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch {
		case !cfg.All && !isLocal(r):
			http.Error(w, "this page is for this node only: forward a port to its loopback address (kubectl port-forward), or start kube-ipvs with --page=all", http.StatusForbidden)
		case !cfg.isHost(r.Host):
			http.Error(w, "ask by an IP address, localhost or the name of the node: another name may be somebody else's", http.StatusMisdirectedRequest)
		default:
			next.ServeHTTP(w, r)
		}
	}
}

// isLocal reports whether both ends of a connection are loopback addresses. One end alone does not tell: with route_localnet, a
// neighbour's packets may reach a loopback address.
func isLocal(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local != nil && isLoopback(local.String()) && isLoopback(r.RemoteAddr)
}

func isLoopback(at string) bool {
	a, err := netip.ParseAddrPort(at)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// isHost reports whether a host of a request can only be this node: nobody else can make an address, localhost or the node's name lead
// here.
func (c *Config) isHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || c.Node != "" && strings.EqualFold(name, c.Node)
}
