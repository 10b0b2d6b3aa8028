package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/sync/plan"
)

// A response is the body of /healthz or /livez.
type response struct {
	Code         int
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible"`
	Healthy      bool      `json:"healthy"`
	Status       map[string]struct {
		LastUpdated time.Time `json:"lastUpdated"`
		Healthy     bool      `json:"healthy"`
	} `json:"status"`
}

func ask(t *testing.T, h *Handlers, path string) response {
	t.Helper()
	w := httptest.NewRecorder()
	h.Mux().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	out := response{Code: w.Code}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: header %s is %q, want %q", path, name, got, want)
		}
	}
	return out
}

// The proxy is healthy unless a change waits for the limit or longer, and alive unless its loop is stuck; it is ready once
// everything was programmed. Whether the node should be used counts for /healthz alone, and does not change its statement on
// the proxy.
func TestHandlersOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eligible, alone := true, true
		state := NewState(time.Minute)
		a := &Handlers{State: state, Eligible: func() bool { return eligible }, Alone: func() bool { return alone }, Families: func() []string { return []string{"IPv4", "IPv6"} }}
		registry := prometheus.NewRegistry()
		a.Register(registry)
		var converged time.Time // when everything was last programmed
		pass := func(d time.Duration) func() { return func() { time.Sleep(d) } }
		done := func() { state.Converged(nil); converged = time.Now() }
		for _, tt := range []struct {
			name                   string
			then                   func()
			healthz, livez, readyz int
		}{
			{"nothing happened yet", func() {}, 200, 200, 503},
			{"something is to be programmed", state.Queued, 200, 200, 503},
			{"it is, in time", func() { time.Sleep(59 * time.Second); done() }, 200, 200, 200},
			{"nothing happens for a day", pass(24 * time.Hour), 200, 200, 200},
			{"the next thing waits", func() { state.Queued(); time.Sleep(59 * time.Second) }, 200, 200, 200},
			{"another comes, and the first has waited for long enough", func() { state.Queued(); time.Sleep(time.Second) }, 503, 200, 503},
			{"an attempt fails", func() { state.Converged(errors.New("no")) }, 503, 200, 503},
			{"one goes well", done, 200, 200, 200},
			{"an attempt fails that nothing led to", func() { state.Converged(errors.New("no")); time.Sleep(time.Minute) }, 503, 200, 503},
			{"that goes well, too", done, 200, 200, 200},
			{"the node is being deleted", func() { eligible = false }, 503, 200, 200},
			{"and the proxy does not keep up", func() { state.Queued(); time.Sleep(time.Minute) }, 503, 200, 503},
			{"the node stays after all", func() { eligible = true; done() }, 200, 200, 200},
			{"another proxy is seen", func() { alone = false }, 200, 200, 503},
			{"it has ended", func() { alone = true }, 200, 200, 200},
			{"the loop goes on", func() { state.Beat(); time.Sleep(stuckAfter - time.Second) }, 200, 200, 200},
			{"the loop is stuck", pass(time.Second), 503, 503, 503},
			{"it is not any more", state.Beat, 200, 200, 200},
		} {
			tt.then()
			if reason := a.Unready(); (reason == "") != (tt.readyz == 200) {
				t.Errorf("%s: /readyz is %d, and the reason %q", tt.name, tt.readyz, reason)
			}
			for path, code := range map[string]int{"/healthz": tt.healthz, "/livez": tt.livez, "/readyz": tt.readyz} {
				got := ask(t, a, path)
				want := response{Code: code, CurrentTime: time.Now(), LastUpdated: converged, Healthy: code == 200}
				if path == "/healthz" {
					want.Healthy = code == 200 || !eligible && tt.readyz == 200
				}
				if path == "/readyz" && (converged.IsZero() || !alone) {
					want.Healthy = true
				}
				if code == 200 {
					want.LastUpdated = want.CurrentTime
				}
				if path == "/healthz" {
					want.NodeEligible = &eligible
				}
				want.Status = got.Status
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s (-want +got):\n%s", tt.name, path, diff)
				}
				if converged.IsZero() && got.Status != nil {
					t.Errorf("%s: %s reports families that were never programmed: %+v", tt.name, path, got.Status)
				}
				for _, family := range a.Families() {
					if converged.IsZero() {
						break
					}
					if s, ok := got.Status[family]; !ok || s.Healthy != want.Healthy || !s.LastUpdated.Equal(converged) || len(got.Status) != 2 {
						t.Errorf("%s: %s says %+v of %s", tt.name, path, got.Status, family)
					}
				}
			}
		}
		want := map[string]float64{"kubeproxy_proxy_healthz_total 200": 12, "kubeproxy_proxy_healthz_total 503": 6, "kubeproxy_proxy_livez_total 200": 17, "kubeproxy_proxy_livez_total 503": 1}
		if diff := cmp.Diff(want, counted(t, registry)); diff != "" {
			t.Errorf("answers counted (-want +got):\n%s", diff)
		}
	})
}

// counted returns the counters by name and code.
func counted(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			out[f.GetName()+" "+m.Label[0].GetValue()] = m.Counter.GetValue()
		}
	}
	return out
}

// Bodies are kube-proxy's to the byte.
func TestBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := NewState(time.Minute)
		h := &Handlers{State: state, Eligible: func() bool { return true }, Alone: func() bool { return true }, Families: func() []string { return []string{"IPv4"} }}
		h.Register(prometheus.NewRegistry())
		body := func(path string) string {
			w := httptest.NewRecorder()
			h.Mux().ServeHTTP(w, httptest.NewRequest(http.MethodHead, path, nil))
			return w.Body.String()
		}
		now := time.Now().Format(time.RFC3339Nano)
		expect := func(got, want string) {
			t.Helper()
			if want = strings.ReplaceAll(want, "NOW", now); got != want {
				t.Errorf("body %q, want %q", got, want)
			}
		}
		expect(body("/healthz"), `{"lastUpdated":"NOW","currentTime":"NOW","nodeEligible":true,"healthy":true}`)
		state.Converged(nil)
		expect(body("/livez"), `{"lastUpdated":"NOW","currentTime":"NOW","healthy":true,"status":{"IPv4":{"lastUpdated":"NOW","healthy":true}}}`)

		n := NewNodePorts(state, nil, func(plan.Name, error) {})
		w := httptest.NewRecorder()
		n.handler(plan.Name{Namespace: "default", Name: "web"}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/any", nil))
		expect(w.Body.String(), "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 0,\n\t\"serviceProxyHealthy\": true\n}")
	})
}
