// Package sourcetest helps to test implementations of package source, and checks that they keep its contract.
package sourcetest

import (
	"testing"
	"time"

	"kube-ipvs/sync/plan"
)

// timeout is the longest time until a notification arrives.
const timeout = 10 * time.Second

// A Recorder is a Handler that records its calls: "synced", "node", "problems", or the name of a Service.
type Recorder chan string

// NewRecorder returns a Recorder with room for a test's calls.
func NewRecorder() Recorder { return make(Recorder, 100) }

// Synced implements source.Handler.
func (r Recorder) Synced() { r <- "synced" }

// ServiceChanged implements source.Handler.
func (r Recorder) ServiceChanged(name plan.Name) { r <- name.String() }

// EndpointsChanged implements source.Handler.
func (r Recorder) EndpointsChanged(name plan.Name) { r <- name.String() }

// NodeChanged implements source.Handler.
func (r Recorder) NodeChanged() { r <- "node" }

// Problems is a source.Problems.
func (r Recorder) Problems([]plan.Problem) { r <- "problems" }

// Next demands that these are the next calls.
func (r Recorder) Next(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-r:
			if got != w {
				t.Fatalf("call %q, want %q", got, w)
			}
		case <-time.After(timeout):
			t.Fatalf("no call, want %q", w)
		}
	}
}

// Nothing demands that no call comes for a while.
func (r Recorder) Nothing(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case got := <-r:
		t.Fatalf("call %q, want none", got)
	case <-time.After(d):
	}
}
