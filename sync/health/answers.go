package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Answers are the handlers of /healthz and /livez, with kube-proxy's codes, headers and bodies (pkg/proxy/healthcheck), and of
// /readyz, which kube-proxy does not have.
type Answers struct {
	State *State

	// Eligible reports whether the node should be used at all: it is not being deleted.
	Eligible func() bool

	// Families returns the names of the address families that are served, such as "IPv4".
	Families func() []string

	healthz, livez *prometheus.CounterVec
}

// Register registers the counters of answers by code.
func (a *Answers) Register(r prometheus.Registerer) {
	a.healthz = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_healthz_total", Help: "Answers of /healthz by code."}, []string{"code"})
	a.livez = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_livez_total", Help: "Answers of /livez by code."}, []string{"code"})
	r.MustRegister(a.healthz, a.livez)
}

// Mux returns the handlers at their paths.
func (a *Answers) Mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { a.Healthz(w) })
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { a.Livez(w) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { a.Readyz(w) })
	return mux
}

// Healthz answers for load balancers: 200 if the proxy keeps up and the node is not being deleted, else 503.
func (a *Answers) Healthz(w http.ResponseWriter) {
	eligible := a.Eligible()
	b := a.body(a.State.Healthy())
	b.NodeEligible = &eligible
	a.answer(w, b, b.Healthy && eligible, a.healthz)
}

// Livez answers for liveness probes: 503 if a restart is what helps. It leaves the node out, as kube-proxy's does (KEP-3836),
// and whether the proxy keeps up, which kube-proxy's does not: that would kill it for what the kernel refuses, again and
// again, and a new process begins with all of the work.
func (a *Answers) Livez(w http.ResponseWriter) {
	_, updated := a.State.Healthy()
	b := a.body(a.State.Alive(), updated)
	a.answer(w, b, b.Healthy, a.livez)
}

// Readyz answers for a roll-out: 200 if everything was programmed once, and the proxy keeps up since.
func (a *Answers) Readyz(w http.ResponseWriter) {
	b := a.body(a.State.Healthy())
	a.answer(w, b, b.Healthy && !b.LastUpdated.IsZero(), nil)
}

type body struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyStatus `json:"status"`
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

func (a *Answers) body(healthy bool, updated time.Time) body {
	b := body{LastUpdated: updated, CurrentTime: time.Now(), Healthy: healthy, Status: map[string]familyStatus{}}
	for _, f := range a.Families() {
		b.Status[f] = familyStatus{LastUpdated: updated, Healthy: healthy}
	}
	return b
}

// answer writes the body. One that says that all is well says that it was so until now.
func (a *Answers) answer(w http.ResponseWriter, b body, ok bool, count *prometheus.CounterVec) {
	code := http.StatusServiceUnavailable
	if ok {
		code, b.LastUpdated = http.StatusOK, b.CurrentTime
	}
	if count != nil {
		count.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	writeJSON(w, code, b)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client went away
}
