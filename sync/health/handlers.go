package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Handlers are the HTTP handlers of /healthz and /livez, with kube-proxy's codes, headers and bodies
// (pkg/proxy/healthcheck), and of /readyz, which kube-proxy lacks.
type Handlers struct {
	State *State

	// Eligible reports whether the node should be used at all: it is not being deleted.
	Eligible func() bool

	// Alone reports whether no other proxy is seen on the node.
	Alone func() bool

	// Families returns the names of the address families that are served, such as "IPv4".
	Families func() []string

	healthz, livez *prometheus.CounterVec
}

// Register registers the counters of responses by code. It must be called before the first request.
func (h *Handlers) Register(r prometheus.Registerer) {
	h.healthz = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_healthz_total", Help: "[ALPHA] Responses of /healthz, by HTTP status code."}, []string{"code"})
	h.livez = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_livez_total", Help: "[ALPHA] Responses of /livez, by HTTP status code."}, []string{"code"})
	r.MustRegister(h.healthz, h.livez)
}

// Mux returns the handlers at their paths.
func (h *Handlers) Mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { h.Healthz(w) })
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { h.Livez(w) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { h.Readyz(w) })
	return mux
}

// Healthz responds to load balancers: 200 if the proxy keeps up and the node is not being deleted, else 503.
func (h *Handlers) Healthz(w http.ResponseWriter) {
	eligible := h.Eligible()
	b := h.body(h.State.Healthy())
	b.NodeEligible = &eligible
	h.respond(w, b, b.Healthy && eligible, h.healthz)
}

// Livez responds to liveness probes: 503 if a restart would help. Like kube-proxy's it ignores the node (KEP-3836).
// Unlike kube-proxy's it ignores whether the proxy keeps up: a kernel that refuses objects would otherwise cause restart
// after restart, each of which begins with all of the work.
func (h *Handlers) Livez(w http.ResponseWriter) {
	_, updated := h.State.Healthy()
	b := h.body(h.State.Alive(), updated)
	h.respond(w, b, b.Healthy, h.livez)
}

// Readyz responds to roll-outs: 200 if everything was programmed once, the proxy has kept up since, and no other proxy programs the
// node. Beside another this one still serves, so /healthz is as before; but a roll-out that meets such a node should stop.
func (h *Handlers) Readyz(w http.ResponseWriter) {
	b := h.body(h.State.Healthy())
	h.respond(w, b, h.Unready() == "", nil)
}

// Unready returns the reason why Readyz does not respond with 200, or "".
func (h *Handlers) Unready() string {
	if reason := h.State.unready(); reason != "" {
		return reason
	}
	if !h.Alone() {
		return "another service proxy programs this node"
	}
	return ""
}

type body struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyStatus `json:"status,omitempty"` // of families that were programmed once
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

func (h *Handlers) body(healthy bool, updated time.Time) body {
	b := body{LastUpdated: updated, CurrentTime: time.Now(), Healthy: healthy, Status: map[string]familyStatus{}}
	for _, f := range h.Families() {
		if updated.IsZero() {
			break
		}
		b.Status[f] = familyStatus{LastUpdated: updated, Healthy: healthy}
	}
	return b
}

// respond writes the body. A healthy one was last updated now.
func (h *Handlers) respond(w http.ResponseWriter, b body, ok bool, count *prometheus.CounterVec) {
	code := http.StatusServiceUnavailable
	if ok {
		code, b.LastUpdated = http.StatusOK, b.CurrentTime
	}
	if count != nil {
		count.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	text, err := json.Marshal(b)
	writeJSON(w, code, text, err)
}

// writeJSON writes a body to the byte as kube-proxy does.
func writeJSON(w http.ResponseWriter, code int, text []byte, err error) {
	if err != nil {
		panic(err) // of types without fields that have no text
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(text) // fails only if the client went away
}
