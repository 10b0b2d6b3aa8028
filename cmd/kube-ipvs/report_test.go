package main

import (
	"testing"

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
	r := reporter{
		log: funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{}), told: map[plan.Name][]plan.Problem{},
		notify: func(name plan.Name, n kube.Notice) {
			if name != web {
				t.Errorf("%v was told", name)
			}
			told = append(told, n)
		},
	}
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
