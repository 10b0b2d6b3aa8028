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
	var told []kube.Notice
	var lines []string
	r := newReporter(funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}), func(name plan.Name, n kube.Notice) {
		if name != web {
			t.Errorf("%v was told", name)
		}
		told = append(told, n)
	})
	for _, tt := range []struct {
		name string
		all  []plan.Problem
		want []kube.Notice
	}{
		{"something is not served", []plan.Problem{wrong}, []kube.Notice{{Type: "Warning", Reason: "NotServed", Note: "spec.externalIPs[0]: is wrong"}}},
		{"something is odd, too", []plan.Problem{wrong, odd}, []kube.Notice{{Type: "Normal", Reason: "NonStandardValue", Note: "spec.externalIPs[1]: is odd"}}},
		{"the same in another order", []plan.Problem{odd, wrong}, nil},
		{"all is well", nil, nil},
		{"something of this node's own", []plan.Problem{here}, []kube.Notice{{Type: "Warning", Reason: "NotServed", Note: "node port: is taken", Here: true}}},
		{"something in a slice", []plan.Problem{here, endpoint}, []kube.Notice{
			{Type: "Warning", Reason: "NotServed", Note: "EndpointSlice default/web-1: endpoints[0]: is wrong"}}},
		{"the first again", []plan.Problem{wrong}, []kube.Notice{{Type: "Warning", Reason: "NotServed", Note: "spec.externalIPs[0]: is wrong"}}},
	} {
		told, lines = nil, nil
		r.report(web, tt.all)
		if diff := cmp.Diff(tt.want, told); diff != "" || len(lines) != len(tt.want) {
			t.Errorf("%s: logged %q; told (-want +got)\n%s", tt.name, lines, diff)
		}
	}
	r.report(web, nil)
	if len(r.told) > 0 {
		t.Errorf("remembered of what is over: %v", r.told)
	}
}

// Whoever writes a Service's slices decides how much there is to tell: of a long list the first is told, what is not served
// before what is odd, and what was told before costs no comparison with each of the others.
func TestReportOfALongList(t *testing.T) {
	web := plan.Name{Namespace: "default", Name: "web"}
	var told []kube.Notice
	r := newReporter(logr.Discard(), func(_ plan.Name, n kube.Notice) { told = append(told, n) })
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
		{"as many as are told", problems(mostTold, false), mostTold, "EndpointSlice default/web-1: endpoints[19]: is wrong"},
		{"one more", problems(mostTold+1, false), 1, "problems: there are more than these 20"},
		{"many more", problems(100_000, false), 0, ""},
		{"as many as are told", problems(mostTold, false), 0, ""},
		{"none", nil, 0, ""},
		{"many that are odd, and one that is wrong", append(problems(100_000, true), problems(1, false)...), mostTold + 1, "problems: there are more than these 20"},
	} {
		told = nil
		r.report(web, tt.all)
		if len(told) != tt.want || tt.want > 0 && told[tt.want-1].Note != tt.last {
			t.Errorf("%s: told %d, want %d: %v", tt.name, len(told), tt.want, told)
		}
	}
	if first := told[0]; first.Reason != notServed {
		t.Errorf("first: %v", first)
	}
}
