package loop

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/sync/plan"
)

// However often something changes before the loop looks, it is one entry and one wake-up.
func TestQueueHoldsWhatExists(t *testing.T) {
	q := NewQueue()
	var queued atomic.Int32
	q.Queued = func() { queued.Add(1) }
	a, b := plan.Name{Namespace: "x", Name: "a"}, plan.Name{Namespace: "x", Name: "b"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				q.ServiceChanged(a)
				q.ServiceChanged(b)
				q.NodeChanged()
				q.Note(Kernel)
			}
		})
	}
	wg.Wait()
	q.Synced()
	if len(q.wake) != 1 {
		t.Errorf("%d wake-ups wait, want 1", len(q.wake))
	}
	<-q.wake
	names, what := q.take()
	if diff := cmp.Diff(map[plan.Name]struct{}{a: {}, b: {}}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if what != Synced|Node|Kernel {
		t.Errorf("what = %b, want %b", what, Synced|Node|Kernel)
	}
	if names, what := q.take(); len(names) > 0 || what != 0 {
		t.Errorf("taken twice: %v, %b", names, what)
	}
	if got := queued.Load(); got != 1 {
		t.Errorf("Queued was called %d times until the sources were synced, want once", got)
	}
	q.ServiceChanged(a)
	q.NodeChanged()
	if got := queued.Load(); got != 3 {
		t.Errorf("Queued was called %d times, want once more for each change", got)
	}
	if names, _ := q.take(); len(names) != 1 || len(q.wake) != 1 {
		t.Error("a change after the queue was emptied is lost")
	}
}
