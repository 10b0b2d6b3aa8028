package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRows shows that a pod that answers itself gets a line of its own, the last.
func TestRows(t *testing.T) {
	a := ask{from: "echo-1", times: 3, to: "10.96.10.1:6711", want: each("echo-1", "echo-1", "echo-2", "echo-3")}
	got := a.rows([]answer{
		{answered, "echo-1", "node1", "192.168.77.11"},
		{answered, "echo-3", "echo-1", "10.244.1.11"},
		{answered, "echo-2", "echo-1", "10.244.1.11"},
	}, true)
	want := []row{
		{"echo-1 3x 10.96.10.1:6711", "echo-2 echo-3", "10.244.1.11 (echo-1)", "all 3, echo-1", "right"},
		{"", "echo-1", "192.168.77.11 (node1)", "itself: node1", "right"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Error(diff)
	}
}
