package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	"k8s.io/kube-proxy/config/v1alpha1"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/manifest"
)

// configured returns the configuration of these flags.
func configured(t *testing.T, args ...string) *config.Config {
	t.Helper()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags := config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := flags.Load()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// ask returns the answer of the metrics port.
func ask(t *testing.T, mux http.Handler, method, path, accept, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

// The metrics port has kube-proxy's pages, with its codes and content types. What it says is found by a pattern.
func TestMetricsPort(t *testing.T) {
	const (
		text    = "text/plain; charset=utf-8"
		asFlagz = ";as=Flagz;v=v1beta1;g=config.k8s.io"
	)
	off := []string{"--feature-gates=ComponentFlagz=false,ComponentStatusz=false"}
	for _, tt := range []struct {
		args                 []string
		method, path, accept string
		code                 int
		kind                 string // of the content
		want                 string
	}{
		{nil, "GET", "/healthz", "", 200, text, `^ok$`},
		{nil, "POST", "/healthz", "", 200, text, `^ok$`},
		{nil, "GET", "/healthz?verbose", "", 200, text, `^\[\+\]ping ok\nhealthz check passed\n$`},
		{nil, "GET", "/healthz/ping", "", 200, text, `^ok$`},
		{nil, "GET", "/proxyMode", "", 200, text, `^ipvs$`},
		{nil, "DELETE", "/proxyMode", "", 200, text, `^ipvs$`},
		{nil, "GET", "/metrics", "", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", `(?m)^go_goroutines \d+$`},
		{nil, "GET", "/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", 200,
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores", ``},
		{nil, "GET", "/metrics/slis", "", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", `process_start_time_seconds`},
		{nil, "DELETE", "/metrics/slis", "", 200, "text/plain; charset=utf-8", `^metrics reset\n$`},
		{nil, "PUT", "/configz", "", 200, "application/json", `^\{"kubeproxy.config.k8s.io":\{"kind":"KubeProxyConfiguration",`},
		{nil, "GET", "/flagz", "", 200, text, `^\nkube-ipvs flagz\n(.*\n)*bind-address=0.0.0.0\n(.*\n)*v=0\n`},
		{nil, "GET", "/flagz", "text/html, */*;q=0.1", 200, text, `kube-ipvs flagz`},
		{nil, "GET", "/flagz", "text/*", 200, text, `kube-ipvs flagz`},
		{nil, "GET", "/flagz", "application/json" + asFlagz, 200, "application/json;g=config.k8s.io;v=v1beta1;as=Flagz",
			`^\{"kind":"Flagz","apiVersion":"config.k8s.io/v1beta1","metadata":\{"name":"kube-ipvs"\},"flags":\{"bind-address":"0.0.0.0",.*\}\}\n$`},
		{nil, "GET", "/flagz", "application/yaml" + asFlagz, 200, "application/yaml;g=config.k8s.io;v=v1beta1;as=Flagz", `(?m)^kind: Flagz$`},
		{nil, "GET", "/flagz", "application/json", 406, "application/json", `"reason":"NotAcceptable","code":406\}\n$`},
		{nil, "GET", "/flagz", "application/json;as=Statusz;v=v1beta1;g=config.k8s.io", 406, "application/json", `only the following media types are accepted: application/json, application/yaml, text/plain`},
		{nil, "GET", "/flagz", "application/json;as=Flagz;v=v1;g=config.k8s.io", 406, "application/json", `"code":406`},
		{nil, "GET", "/flagz", "text/plain;as=Flagz", 406, "application/json", `^\{"kind":"Status","apiVersion":"v1","metadata":\{\},`},
		{nil, "GET", "/statusz", "", 200, text, `^\nkube-ipvs statusz\n(.*\n)+Started: .*\nUp: \d+ hr \d\d min \d\d sec\nGo version: go1.*\nBinary version: devel\nPaths: /configz /flagz /healthz /metrics /proxyMode\n$`},
		{nil, "GET", "/statusz", "application/json;as=Statusz;v=v1alpha1;g=config.k8s.io", 200, "application/json;g=config.k8s.io;v=v1alpha1;as=Statusz",
			`"goVersion":"go1.*","binaryVersion":"devel","paths":\["/configz","/flagz","/healthz","/metrics","/proxyMode"\]\}\n$`},
		{nil, "GET", "/debug/pprof/", "", 404, text, `^404 page not found\n$`},
		{nil, "GET", "/debug/flags/v", "", 404, text, `^404 page not found\n$`},
		{nil, "GET", "/", "", 404, text, `^404 page not found\n$`},
		{nil, "GET", "/livez", "", 404, text, `^404 page not found\n$`},
		{off, "GET", "/flagz", "", 404, text, `^404 page not found\n$`},
		{off, "GET", "/statusz", "", 404, text, `^404 page not found\n$`},
		{[]string{"--feature-gates=ComponentFlagz=false"}, "GET", "/statusz", "", 200, text, `Paths: /configz /healthz /metrics /proxyMode\n$`},
		{[]string{"--profiling"}, "GET", "/debug/pprof", "", 302, "text/html; charset=utf-8", `/debug/pprof/`},
		{[]string{"--profiling"}, "GET", "/debug/flags/v", "", 406, "text/plain", `^unsupported http method\n$`},
		{[]string{"--profiling"}, "PUT", "/debug/flags/v", "", 400, "text/plain", `invalid syntax\n$`},
	} {
		w := ask(t, metricsMux(configured(t, tt.args...), prometheus.NewRegistry(), nil), tt.method, tt.path, tt.accept, "")
		if got := w.Header().Get("Content-Type"); w.Code != tt.code || got != tt.kind || !regexp.MustCompile(tt.want).MatchString(w.Body.String()) {
			t.Errorf("%s %s, %q, with %q: %d, %q, %.300q; want %d, %q, %q", tt.method, tt.path, tt.accept, tt.args, w.Code, got, w.Body.String(), tt.code, tt.kind, tt.want)
		}
	}
}

// A deprecated version warns, another does not.
func TestDeprecatedVersion(t *testing.T) {
	mux := metricsMux(config.Default(), prometheus.NewRegistry(), nil)
	for version, want := range map[string]bool{"v1alpha1": true, "v1beta1": false} {
		w := ask(t, mux, http.MethodGet, "/statusz", "application/json;as=Statusz;g=config.k8s.io;v="+version, "")
		if got := strings.HasPrefix(w.Header().Get("Warning"), "299 - "); got != want {
			t.Errorf("%s: warning %q", version, w.Header().Get("Warning"))
		}
	}
}

// The page has the configuration as kube-proxy would have it, complete with defaults.
func TestConfigz(t *testing.T) {
	cfg := configured(t, "--cluster-cidr=10.244.0.0/16", "--ipvs-scheduler=mh")
	w := ask(t, metricsMux(cfg, prometheus.NewRegistry(), nil), http.MethodGet, "/configz", "", "")
	var got map[string]*v1alpha1.KubeProxyConfiguration
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := cfg.KubeProxy.DeepCopy()
	want.APIVersion, want.Kind = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"
	want.FeatureGates = nil // an empty one is left out
	if diff := cmp.Diff(map[string]*v1alpha1.KubeProxyConfiguration{"kubeproxy.config.k8s.io": want}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Kubernetes's metric of its version has the one whose libraries these are.
func TestKubernetesBuildInfo(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(kubernetesBuildInfo())
	w := ask(t, metricsMux(config.Default(), registry, nil), http.MethodGet, "/metrics", "", "")
	want := regexp.MustCompile(`(?m)^kubernetes_build_info\{.*git_version="v1\.(\d+)\.\d+",.*major="1",minor="(\d+)",.*\} 1$`)
	if got := want.FindStringSubmatch(w.Body.String()); got == nil || got[1] != got[2] {
		t.Errorf("%q", got)
	}
}

// The log's verbosity follows a request.
func TestPutVerbosity(t *testing.T) {
	mux := metricsMux(configured(t, "--profiling"), prometheus.NewRegistry(), nil)
	before := klog.V(7).Enabled()
	w := ask(t, mux, http.MethodPut, "/debug/flags/v", "", "7")
	if w.Code != http.StatusOK || before || !klog.V(7).Enabled() || klog.V(8).Enabled() {
		t.Errorf("%d %s; enabled before: %t, after: %t", w.Code, w.Body, before, klog.V(7).Enabled())
	}
	if w := ask(t, mux, http.MethodPut, "/debug/flags/v", "", "0"); w.Code != http.StatusOK || klog.V(1).Enabled() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The page for a browser is beside the metrics unless --page=none; it is for this node alone unless --page=all.
func TestPage(t *testing.T) {
	answers := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "answer") })
	const near, far = "127.0.0.1:40000", "192.0.2.1:40000"
	for _, tt := range []struct {
		args         []string
		path, remote string
		code         int
		want         string
	}{
		{nil, "/page", near, http.StatusTemporaryRedirect, ""},
		{nil, "/page/", near, http.StatusOK, "<title>kube-ipvs</title>"},
		{nil, "/page/", far, http.StatusForbidden, "--page=all"},
		{nil, "/page/v1alpha1/overview", near, http.StatusOK, "answer"},
		{nil, "/v1alpha1/overview", near, http.StatusNotFound, ""},
		{[]string{"--page=loopback"}, "/page/", far, http.StatusForbidden, ""},
		{[]string{"--page=all"}, "/page/", far, http.StatusOK, ""},
		{[]string{"--page=none"}, "/page/", near, http.StatusNotFound, ""},
		{[]string{"--page=none"}, "/page/v1alpha1/overview", near, http.StatusNotFound, ""},
	} {
		p := &proxy{config: configured(t, tt.args...), source: manifest.New(t.TempDir(), "node1", loop.NewQueue(), nil)}
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:10249"+tt.path, nil)
		r.RemoteAddr = tt.remote
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10249})))
		w := httptest.NewRecorder()
		metricsMux(p.config, prometheus.NewRegistry(), p.browser(answers)).ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%q: %s from %s: %d %.200s, want %d %s", tt.args, tt.path, tt.remote, w.Code, w.Body, tt.code, tt.want)
		}
	}
}
