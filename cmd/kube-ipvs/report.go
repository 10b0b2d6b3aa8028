package main

import (
	"fmt"
	"iter"
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
	told   map[plan.Name]map[plan.Problem]struct{}
}

func newReporter(log logr.Logger, notify func(plan.Name, kube.Notice)) *reporter {
	return &reporter{log: log, notify: notify, told: map[plan.Name]map[plan.Problem]struct{}{}}
}

// mostTold is how much is told of one Service at a time. Whoever writes its slices may put a thousand wrong addresses in each.
const mostTold = 20

// report tells what is new among all that there is about a Service, or of a long list the first: what is not served goes
// before what is odd.
func (r *reporter) report(name plan.Name, problems []plan.Problem) {
	told, now := r.told[name], map[plan.Problem]struct{}{}
	for p := range byWeight(problems) {
		if _, again := now[p]; again {
			continue
		}
		if len(now) == mostTold {
			p = plan.Problem{Object: "Service " + name.String(), Field: "problems", Reason: fmt.Sprintf("there are more than these %d", mostTold), Note: p.Note}
		}
		now[p] = struct{}{}
		if _, known := told[p]; !known {
			r.tell(name, p)
		}
		if len(now) > mostTold {
			break
		}
	}
	if len(now) == 0 {
		delete(r.told, name)
		return
	}
	r.told[name] = now
}

// byWeight yields what is not served, then what is a note.
func byWeight(problems []plan.Problem) iter.Seq[plan.Problem] {
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
