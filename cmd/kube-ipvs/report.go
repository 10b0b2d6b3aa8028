package main

import (
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/plan"
)

// The reasons of Events on Services. The last is kube-proxy's (pkg/proxy/healthcheck).
const (
	notServed     = "NotServed"
	nonStandard   = "NonStandardValue"
	noHealthCheck = "FailedToStartServiceHealthcheck"
	nodeProblem   = "KubeIPVSProblem" // on the Node
)

// A reporter tells the users of Services what is not served, and notes what is odd: each thing once, as long as it lasts.
// Its methods are called one at a time.
type reporter struct {
	log    logr.Logger
	notify func(plan.Name, kube.Notice)
	told   map[plan.Name][]plan.Problem
}

// report tells what is new among all that there is about a Service.
func (r *reporter) report(name plan.Name, problems []plan.Problem) {
	for _, p := range problems {
		if !slices.Contains(r.told[name], p) {
			r.tell(name, p)
		}
	}
	if len(problems) == 0 {
		delete(r.told, name)
		return
	}
	r.told[name] = problems
}

func (r *reporter) tell(name plan.Name, p plan.Problem) {
	n := kube.Notice{Type: corev1.EventTypeWarning, Reason: notServed, Note: p.Field + ": " + p.Reason, Here: p.Here}
	message := "Part of a Service is not served"
	if p.Note {
		n.Type, n.Reason = corev1.EventTypeNormal, nonStandard
		message = "Part of a Service is written in an odd way"
	}
	if p.Object != "Service "+name.String() { // but one of its slices
		n.Note = p.String()
	}
	r.log.Info(message, "service", name, "object", p.Object, "field", p.Field, "reason", p.Reason)
	r.notify(name, n)
}

// A nodeReporter tells what about this node keeps Services from being served: each thing once, as long as it lasts. Several
// parts find out about such things. Its methods may be called from any goroutine.
type nodeReporter struct {
	log    logr.Logger
	notify func(kube.Notice)
	count  prometheus.Gauge

	mu   sync.Mutex
	told map[string][]plan.Problem // by part
}

func newNodeReporter(log logr.Logger, notify func(kube.Notice)) *nodeReporter {
	return &nodeReporter{
		log: log, notify: notify, told: map[string][]plan.Problem{}, count: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_node_problems", Help: "Problems of this node that keep Services from being served."}),
	}
}

// report tells what is new among all that a part finds, and logs what is over.
func (r *nodeReporter) report(part string, problems []plan.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range problems {
		if !slices.Contains(r.told[part], p) {
			r.log.Info("Something about this node keeps Services from being served", "field", p.Field, "reason", p.Reason)
			r.notify(kube.Notice{Type: corev1.EventTypeWarning, Reason: nodeProblem, Note: p.Field + ": " + p.Reason, Here: true})
		}
	}
	for _, p := range r.told[part] {
		if !slices.Contains(problems, p) {
			r.log.Info("Something about this node is in order again", "field", p.Field)
		}
	}
	r.count.Add(float64(len(problems) - len(r.told[part])))
	r.told[part] = problems
}
