package main

import (
	"fmt"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"kube-ipvs/sync/plan"
)

// A problem of the source is logged once as long as it lasts, and again when it comes back.
func TestLogProblems(t *testing.T) {
	var logged []string
	report := logProblems(funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}))
	lost := plan.Problem{Object: "EndpointSlice default/lost", Field: "metadata.labels", Reason: "names no Service"}
	for _, problems := range [][]plan.Problem{{lost}, {lost, {Object: "Node n1", Field: "status.addresses[0]", Reason: "leading zeros", Note: true}}, nil, {lost}} {
		report(problems)
	}
	line := func(message, object, field, reason string) string {
		return fmt.Sprintf(`"level"=0 "msg"=%q "object"=%q "field"=%q "reason"=%q`, message, object, field, reason)
	}
	ignored := line("Ignoring part of an object", lost.Object, lost.Field, lost.Reason)
	want := []string{ignored, line("Non-standard value in an object", "Node n1", "status.addresses[0]", "leading zeros"), ignored}
	if diff := cmp.Diff(want, logged); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
