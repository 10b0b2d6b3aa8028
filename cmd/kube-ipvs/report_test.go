package main

import (
	"fmt"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/plan"
)

func TestReport(t *testing.T) {
	web := plan.Name{Namespace: "default", Name: "web"}
	wrong := plan.Problem{Object: "Service default/web", Field: "spec.externalIPs[0]", Reason: "is wrong"}
	odd := plan.Problem{Object: "Service default/web", Field: "spec.externalIPs[1]", Reason: "is odd", Note: true}
	here := plan.Problem{Object: "Service default/web", Field: "node port", Reason: "is taken", Here: true}
	endpoint := plan.Problem{Object: "EndpointSlice default/web-1", Field: "endpoints[0]", Reason: "is wrong"}
	var posted []kube.Event
	var lines []string
	r := newReporter(funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}), func(name plan.Name, n kube.Event) {
		if name != web {
			t.Errorf("%v got an Event", name)
		}
		posted = append(posted, n)
	})
	for _, tt := range []struct {
		name string
		all  []plan.Problem
		want []kube.Event
	}{
		{"something is not served", []plan.Problem{wrong}, []kube.Event{{Type: "Warning", Reason: "NotServed", Note: "spec.externalIPs[0]: is wrong"}}},
		{"something is odd, too", []plan.Problem{wrong, odd}, []kube.Event{{Type: "Normal", Reason: "NonStandardValue", Note: "spec.externalIPs[1]: is odd"}}},
		{"the same in another order", []plan.Problem{odd, wrong}, nil},
		{"all is well", nil, nil},
		{"something of this node's own", []plan.Problem{here}, []kube.Event{{Type: "Warning", Reason: "NotServed", Note: "node port: is taken", NodeLocal: true}}},
		{"something in a slice", []plan.Problem{here, endpoint}, []kube.Event{
			{Type: "Warning", Reason: "NotServed", Note: "EndpointSlice default/web-1: endpoints[0]: is wrong"}}},
		{"the first again", []plan.Problem{wrong}, []kube.Event{{Type: "Warning", Reason: "NotServed", Note: "spec.externalIPs[0]: is wrong"}}},
	} {
		posted, lines = nil, nil
		r.report(web, tt.all)
		if diff := cmp.Diff(tt.want, posted); diff != "" || len(lines) != len(tt.want) {
			t.Errorf("%s: logged %q; posted (-want +got)\n%s", tt.name, lines, diff)
		}
	}
	r.report(web, nil)
	if len(r.reported) > 0 {
		t.Errorf("remembered of what is over: %v", r.reported)
	}
}

// The author of a Service's slices decides how many problems there are. Of a long list the first are reported, errors before
// notes, and reported ones cost no comparison with each of the others.
func TestReportOfALongList(t *testing.T) {
	web := plan.Name{Namespace: "default", Name: "web"}
	var posted []kube.Event
	r := newReporter(logr.Discard(), func(_ plan.Name, n kube.Event) { posted = append(posted, n) })
	problems := func(n int, note bool) (out []plan.Problem) {
		for i := range n {
			out = append(out, plan.Problem{Object: "EndpointSlice default/web-1", Field: fmt.Sprintf("endpoints[%d]", i), Reason: "is wrong", Note: note})
		}
		return out
	}
	for _, tt := range []struct {
		name string
		all  []plan.Problem
		want int
		last string
	}{
		{"as many as are posted", problems(maxProblems, false), maxProblems, "EndpointSlice default/web-1: endpoints[19]: is wrong"},
		{"one more", problems(maxProblems+1, false), 1, "problems: there are more than these 20"},
		{"many more", problems(100_000, false), 0, ""},
		{"as many as are posted", problems(maxProblems, false), 0, ""},
		{"none", nil, 0, ""},
		{"many that are odd, and one that is wrong", append(problems(100_000, true), problems(1, false)...), maxProblems + 1, "problems: there are more than these 20"},
	} {
		posted = nil
		r.report(web, tt.all)
		if len(posted) != tt.want || tt.want > 0 && posted[tt.want-1].Note != tt.last {
			t.Errorf("%s: posted %d, want %d: %v", tt.name, len(posted), tt.want, posted)
		}
	}
	if first := posted[0]; first.Reason != notServed {
		t.Errorf("first: %v", first)
	}
}
