package main

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/plan"
)

// The reasons of Events. FailedToStartServiceHealthcheck is kube-proxy's (pkg/proxy/healthcheck).
const (
	notServed     = "NotServed"
	nonStandard   = "NonStandardValue"
	noHealthCheck = "FailedToStartServiceHealthcheck"
	nodeProblem   = "KubeIPVSProblem" // on the Node
)

// A reporter reports the problems of Services in the log and as Events: each once, as long as it lasts. Its methods are
// called one at a time.
type reporter struct {
	log      logr.Logger
	post     func(plan.Name, kube.Event)
	reported reported[plan.Name]
}

func newReporter(log logr.Logger, post func(plan.Name, kube.Event)) *reporter {
	return &reporter{log: log, post: post, reported: reported[plan.Name]{}}
}

// maxProblems is the number of problems of a Service that are reported. The author of its slices may put a thousand
// invalid addresses in each.
const maxProblems = 20

// report reports the new ones of all problems of a Service.
func (r *reporter) report(name plan.Name, problems []plan.Problem) {
	added, _ := r.reported.replace(name, foremost(name, problems))
	for _, p := range added {
		r.reportOne(name, p)
	}
}

// foremost returns the first problems, each once: errors before notes. A last one stands for the rest of a long list.
func foremost(name plan.Name, problems []plan.Problem) []plan.Problem {
	seen := map[plan.Problem]struct{}{}
	var out []plan.Problem
	for p := range errorsFirst(problems) {
		if _, again := seen[p]; again {
			continue
		}
		if len(out) == maxProblems {
			rest := plan.Problem{Object: "Service " + name.String(), Field: "problems", Reason: fmt.Sprintf("there are more than these %d", maxProblems), Note: p.Note}
			return append(out, rest)
		}
		seen[p] = struct{}{}
		out = append(out, p)
	}
	return out
}

// errorsFirst yields the errors, then the notes.
func errorsFirst(problems []plan.Problem) iter.Seq[plan.Problem] {
	return func(yield func(plan.Problem) bool) {
		for _, note := range []bool{false, true} {
			for _, p := range problems {
				if p.Note == note && !yield(p) {
					return
				}
			}
		}
	}
}

func (r *reporter) reportOne(name plan.Name, p plan.Problem) {
	e := kube.Event{Type: corev1.EventTypeWarning, Reason: notServed, Note: p.Field + ": " + p.Reason, NodeLocal: p.Here}
	message := "Part of a Service is not served"
	if p.Note {
		e.Type, e.Reason = corev1.EventTypeNormal, nonStandard
		message = "Part of a Service has a non-standard value"
	}
	if p.Object != "Service "+name.String() { // but one of its slices
		e.Note = p.String()
	}
	r.log.Info(message, "service", name, "object", p.Object, "field", p.Field, "reason", p.Reason)
	r.post(name, e)
}

// A nodeReporter reports the problems of this node that keep Services from being served, or would after a restart: each once, as long as it lasts.
// Several components find such problems. Its methods may be called from any goroutine.
type nodeReporter struct {
	log   logr.Logger
	post  func(kube.Event)
	count prometheus.Gauge

	mu       sync.Mutex
	reported reported[string] // by component
}

func newNodeReporter(log logr.Logger, post func(kube.Event)) *nodeReporter {
	return &nodeReporter{
		log: log, post: post, reported: reported[string]{}, count: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kube_ipvs_node_problems", Help: "Current problems of this node that keep Services from being served, or would after a restart."}),
	}
}

// report reports the new ones of all problems that a component finds, and logs the solved ones.
func (r *nodeReporter) report(component string, problems []plan.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	added, solved := r.reported.replace(component, problems)
	for _, p := range added {
		r.log.Info("A problem of this node keeps Services from being served, or would after a restart", "field", p.Field, "reason", p.Reason)
		r.post(kube.Event{Type: corev1.EventTypeWarning, Reason: nodeProblem, Note: p.Field + ": " + p.Reason, NodeLocal: true})
	}
	for _, p := range solved {
		r.log.Info("A problem of this node is solved", "field", p.Field)
	}
	r.count.Set(float64(r.reported.len()))
}

// reportConfig reports why a start would refuse what the configuration file has become, or that it would not.
func (p *proxy) reportConfig(refused error) {
	var problems []plan.Problem
	if refused != nil {
		problems = []plan.Problem{{Field: "--config", Reason: "goes on as before; the next start would end with: " + strings.Join(strings.Fields(refused.Error()), " ")}}
	}
	p.problems.report("configuration", problems)
}

// concern reports whether a current problem concerns that field.
func (r *nodeReporter) concern(field string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, problems := range r.reported {
		for p := range problems {
			if p.Field == field {
				return true
			}
		}
	}
	return false
}

// current returns the current problems in words, in order.
func (r *nodeReporter) current() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, problems := range r.reported {
		for p := range problems {
			out = append(out, p.Field+": "+p.Reason)
		}
	}
	slices.Sort(out)
	return out
}
