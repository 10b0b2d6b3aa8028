package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/prometheus/slis"
	"k8s.io/kube-proxy/config/v1alpha1"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/page"
)

// metricsMux returns the handlers of the metrics port: those of kube-proxy, with its paths, codes, headers and bodies. As
// there, most answer any method. Own has the metrics beside those of Kubernetes's libraries. Browser has the page for a
// browser; nil: there is none.
func metricsMux(cfg *config.Config, own prometheus.Gatherer, browser http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	if browser != nil {
		mux.Handle(page.Path, browser)
	}
	started := legacyregistry.GetProcessStart()
	mux.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{legacyregistry.DefaultGatherer, own}, promhttp.HandlerOpts{ProcessStartTime: started}))
	slis.SLIMetricsWithReset{}.Install(mux)
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { plain(w, string(cfg.Mode)) })
	mux.HandleFunc("/healthz", pinged)
	mux.HandleFunc("/healthz/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.Handle("/configz", configz(cfg.KubeProxy))
	paths := []string{"/configz", "/healthz", "/metrics", "/proxyMode"}
	if cfg.Enabled(config.ComponentFlagz) {
		paths = slices.Insert(paths, 1, "/flagz")
		mux.Handle("/flagz", flagzPage(cfg.Flags))
	}
	if cfg.Enabled(config.ComponentStatusz) {
		mux.Handle("/statusz", statuszPage(started, runtime.Version(), version, paths))
	}
	if cfg.Profiling {
		handleProfiles(mux)
		mux.HandleFunc("/debug/flags/v", putVerbosity)
	}
	return mux
}

// pinged answers that the server answers: nothing about the proxy, whose health has a port of its own.
func pinged(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("verbose") {
		plain(w, "[+]ping ok\nhealthz check passed\n")
		return
	}
	plain(w, "ok")
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, text)
}

// configz returns the handler of the configuration, in kube-proxy's own form.
func configz(cfg *v1alpha1.KubeProxyConfiguration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		typed := cfg.DeepCopy()
		typed.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("KubeProxyConfiguration"))
		text, err := json.Marshal(map[string]any{v1alpha1.GroupName: typed})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text) // fails only if the client went away
	}
}

// handleProfiles adds the handlers of pprof: go tool pprof http://ADDRESS/debug/pprof/heap.
func handleProfiles(mux *http.ServeMux) {
	mux.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// putVerbosity sets the verbosity of the log: curl -X PUT -d 4 http://ADDRESS/debug/flags/v.
func putVerbosity(w http.ResponseWriter, r *http.Request) {
	answer := func(code int, text string) {
		w.Header().Set("Content-Type", "text/plain") // as kube-proxy here, and only here, has it
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(code)
		fmt.Fprintln(w, text)
	}
	if r.Method != http.MethodPut {
		answer(http.StatusNotAcceptable, "unsupported http method")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100))
	if err != nil {
		answer(http.StatusBadRequest, "error reading request body: "+err.Error())
		return
	}
	said, err := logs.GlogSetter(string(body))
	if err != nil {
		answer(http.StatusBadRequest, err.Error())
		return
	}
	answer(http.StatusOK, said)
}
