//go:build kernel && compare

package kubeproxy

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/child"
)

var update = flag.Bool("update", false, "write the shapes of kube-proxy's metrics anew")

// TestCompareMetrics runs kube-proxy in its ipvs mode and then kube-ipvs on the same objects, and compares names, types, labels and
// buckets of their metrics, and the answers of their pages. Each difference is in a table, with its reason.
func TestCompareMetrics(t *testing.T) {
	addNode(t)
	api := newAPI(t)
	theirs, ours := besideOf(t, api, true), besideOf(t, api, false)

	text := theirs.metrics.Only("kubeproxy_").String()
	if *update {
		must(t, os.WriteFile(shapesFile, []byte(text), 0o600))
	}
	want, err := os.ReadFile(shapesFile)
	must(t, err)
	if text != string(want) {
		t.Errorf("%s is not what kube-proxy has; -args -update writes it:\n%s", shapesFile, text)
	}
	compare(t, theirs.metrics, ours.metrics, metricReasons)
	compare(t, theirs.pages, ours.pages, pageReasons)
	for name, want := range map[string]string{ // the kernel's counters could be read
		"kube_ipvs_service_connections_total":  "counter service_name service_namespace",
		"kube_ipvs_endpoint_connections_total": "counter endpoint_address protocol service_name service_namespace",
	} {
		if got := ours.metrics[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	t.Logf("kube-proxy has %d metrics and kube-ipvs %d; %d pages were asked for", len(theirs.metrics), len(ours.metrics), len(theirs.pages))
}

// A reason explains differences. It must explain one.
type reason struct {
	of  func(name string) bool
	why string
}

func called(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func begins(prefixes ...string) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
}

var metricReasons = []reason{
	{begins("kube_ipvs_"), "our own"},
	{called("kubeproxy_sync_proxy_rules_iptables_restore_failures_total"), "kube-proxy has no series before the first failure"},
	{called("rest_client_rate_limiter_duration_seconds"), "kube-ipvs only watches, and limits the rate of its Events itself"},
	{begins("apiserver_", "aggregator_", "authentication_", "authorization_"), "of the API server's libraries, which kube-proxy links and does not use"},
}

var pageReasons = []reason{
	{begins("GET :10249/statusz application/json"), "kube-ipvs emulates no version of Kubernetes"},
}

// compare compares what both have by name.
func compare(t *testing.T, theirs, ours map[string]string, reasons []reason) {
	t.Helper()
	explained := make([]int, len(reasons))
	all := map[string]struct{}{}
	for name := range theirs {
		all[name] = struct{}{}
	}
	for name := range ours {
		all[name] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if theirs[name] == ours[name] {
			continue
		}
		if i := slices.IndexFunc(reasons, func(r reason) bool { return r.of(name) }); i >= 0 {
			explained[i]++
			continue
		}
		t.Errorf("%s:\n  kube-proxy %s\n  kube-ipvs  %s", name, orNone(theirs[name]), orNone(ours[name]))
	}
	for i, r := range reasons {
		t.Logf("%d differ: %s", explained[i], r.why)
		if explained[i] == 0 {
			t.Errorf("nothing differs any more for the reason %q", r.why)
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "has none"
	}
	return s
}

// A beside is what one of the two proxies showed.
type beside struct {
	metrics Shapes
	pages   map[string]string // by request: status, headers and body without what changes with time
}

// besideOf runs one of the programs until it has programmed a change of endpoints, and asks it for everything.
func besideOf(t *testing.T, api *API, kubeProxy bool) beside {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	program, stop := start(t, ctx, api, kubeProxy)
	defer func() {
		if t.Failed() {
			t.Log(program.LastWords())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	setObjects(t, api, map[bool]int{true: 1, false: 2}[kubeProxy], time.Now()) // a change of one is none for the next
	// All families have measured a change, and the first Event was posted: it is the only request of kube-ipvs that is no watch.
	const seen = `(?s)kubeproxy_network_programming_duration_seconds_count\{ip_family="IPv4"\} 1.*\{ip_family="IPv6"\} 1.*rest_client_request_duration_seconds_count`
	must(t, program.Until(ctx, 500*time.Millisecond, func() bool {
		text, err := child.Get(ctx, "http://"+child.Metrics+"/metrics")
		return err == nil && regexp.MustCompile(seen).MatchString(text)
	}))
	out := beside{pages: map[string]string{}}
	out.askAll(t)
	text, err := child.Get(ctx, "http://"+child.Metrics+"/metrics")
	must(t, err)
	out.metrics, err = ShapesOf(text)
	must(t, err)
	return out
}

// askAll asks for all pages, of paths that exist and do not.
func (b *beside) askAll(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/healthz", "/livez"} {
		b.ask(t, child.Healthz, http.MethodGet, path, "")
		b.ask(t, child.Healthz, http.MethodPost, path, "")
	}
	b.ask(t, child.Healthz, http.MethodGet, "/", "")
	for _, path := range []string{
		"/", "/healthz", "/healthz?verbose", "/healthz/ping", "/livez", "/readyz", "/version", "/proxyMode", "/configz", "/flagz", "/statusz", "/metrics", "/metrics/slis",
		"/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/flags/v",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			b.ask(t, child.Metrics, method, path, "")
		}
	}
	b.ask(t, child.Metrics, http.MethodDelete, "/metrics/slis", "")
	for _, accept := range []string{
		"*/*", "text/plain", "text/html", "application/json", "application/json;as=KIND;v=v1alpha1;g=config.k8s.io", "application/json;as=KIND;v=v1beta1;g=config.k8s.io",
		"application/yaml;as=KIND;v=v1beta1;g=config.k8s.io", "application/json;as=KIND;v=v9;g=config.k8s.io", "application/cbor;as=KIND;v=v1beta1;g=config.k8s.io",
	} {
		b.ask(t, child.Metrics, http.MethodGet, "/flagz", strings.ReplaceAll(accept, "KIND", "Flagz"))
		b.ask(t, child.Metrics, http.MethodGet, "/statusz", strings.ReplaceAll(accept, "KIND", "Statusz"))
	}
	b.ask(t, child.Metrics, http.MethodGet, "/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
}

// ask notes an answer.
func (b *beside) ask(t *testing.T, at, method, path, accept string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+path, nil)
	must(t, err)
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	client := http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	must(t, err)
	body, err := io.ReadAll(response.Body)
	must(t, err)
	must(t, response.Body.Close())
	name := strings.TrimSpace(fmt.Sprint(method, " ", strings.TrimPrefix(at, "127.0.0.1"), path, " ", accept))
	words := []string{response.Status}
	for _, h := range []string{"Content-Type", "X-Content-Type-Options", "Location"} {
		words = append(words, response.Header.Get(h))
	}
	for _, h := range []string{"Warning", "Process-Start-Time-Unix"} {
		if response.Header.Get(h) != "" {
			words = append(words, h)
		}
	}
	b.pages[name] = strings.Join(append(words, shapeOf(body)), " | ")
}

// shapeOf returns a short body as it is, the paths of an object's fields, or nothing of a long text.
func shapeOf(body []byte) string {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err == nil {
		return strings.Join(fieldsOf("", object), " ")
	}
	if len(body) < 80 {
		return fmt.Sprintf("%q", body)
	}
	return "a text"
}

// fieldsOf returns the paths of fields. Flags, which each program has of its own, are one.
func fieldsOf(path string, object map[string]any) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if nested, ok := object[name].(map[string]any); ok && name != "flags" {
			out = append(out, fieldsOf(path+name+".", nested)...)
			continue
		}
		out = append(out, path+name)
	}
	return out
}

// start starts one of the programs, and returns with it what ends it and, of kube-proxy, removes its rules.
func start(t *testing.T, ctx context.Context, api *API, kubeProxy bool) (*child.Program, func() error) {
	t.Helper()
	const ranges = "10.244.0.0/16,fd00:244::/48"
	if kubeProxy {
		p, err := Start(ctx, api, Config{
			Program: built(t, "kube-proxy"), Mode: IPVS, Node: nodeName, Log: filepath.Join(t.TempDir(), "log"),
			ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}, Flags: []string{"--profiling"},
		})
		must(t, err)
		return &p.program, func() error {
			return errors.Join(p.Stop(), Clean(context.Background(), p.program.Path))
		}
	}
	p := &child.Program{
		Path: built(t, "kube-ipvs"), Log: filepath.Join(t.TempDir(), "log"),
		Args: []string{"--master=" + api.URL(), "--kube-api-content-type=application/json", "--proxy-mode=ipvs", "--hostname-override=" + nodeName, "--cluster-cidr=" + ranges, "--conntrack-max-per-core=0", "--profiling"},
	}
	must(t, p.Start())
	err := p.Until(ctx, 100*time.Millisecond, func() bool {
		_, err := child.Get(ctx, "http://"+child.Healthz+"/readyz")
		return err == nil
	})
	if err != nil {
		t.Fatal(err, p.LastWords())
	}
	return p, p.Stop
}

func built(t *testing.T, program string) string {
	t.Helper()
	path, err := filepath.Abs("../../.bin/" + program)
	must(t, err)
	return path
}

const nodeName = "node1"

// addNode gives this namespace the addresses of a node.
func addNode(t *testing.T) {
	t.Helper()
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}
	must(t, netlink.LinkAdd(link))
	for _, a := range []string{"192.168.0.1/24", "fd00::1/64"} {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		addr.Flags = 0x2 // IFA_F_NODAD
		must(t, netlink.AddrAdd(link, addr))
	}
	must(t, netlink.LinkSetUp(link))
}

func newAPI(t *testing.T) *API {
	t.Helper()
	api, err := NewAPI()
	must(t, err)
	t.Cleanup(func() { must(t, api.Close()) })
	must(t, api.Set(
		Node(nodeName, netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00::1")),
		ServiceCIDR(netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")),
	))
	setObjects(t, api, 0, time.Time{})
	return api
}

// setObjects sets a Service with one endpoint of both families, and some more, that changed at this moment, if any.
func setObjects(t *testing.T, api *API, more int, changed time.Time) {
	t.Helper()
	name := plan.Name{Namespace: "default", Name: "web"}
	must(t, api.Set(Service(plan.Service{
		Name: name, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::10")},
		Ports:         []plan.Port{{Name: "p", Proto: inet.TCP, Port: 80, NodePort: 30080}, {Name: "d", Proto: inet.UDP, Port: 53}},
		InternalLocal: true,
	})))
	for n, at := range []string{"10.244.1.1", "fd00:244::1"} {
		e := []plan.Endpoint{{Addr: netip.MustParseAddr(at), Node: "node2", Ready: true, Serving: true}}
		for range more {
			next := e[len(e)-1]
			next.Addr = next.Addr.Next()
			e = append(e, next)
		}
		slice, _ := Slice(n, plan.Slice{Service: name, Endpoints: e, Ports: []plan.SlicePort{
			{Name: "p", Proto: inet.TCP, Port: 8080}, {Name: "d", Proto: inet.UDP, Port: 5353},
		}})
		if !changed.IsZero() {
			slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: changed.UTC().Format(time.RFC3339Nano)}
		}
		must(t, api.Set(slice))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
