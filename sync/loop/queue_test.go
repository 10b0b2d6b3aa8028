package loop

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/health"
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

// A hanging kernel does not answer for a virtual server before it is released.
type hangingTable struct {
	ipvs.Kernel
	at      func(ipvs.Op) bool
	release chan struct{}
}

func (k hangingTable) Do(ctx context.Context, ops []ipvs.Op) []error {
	if slices.ContainsFunc(ops, k.at) {
		<-k.release
	}
	return k.Kernel.Do(ctx, ops)
}

// What comes during a turn waits from its end on, though that says that all is well: the next turn may hang.
func TestWhatComesDuringATurnWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, second := make(chan struct{}), make(chan struct{})
		state := health.NewState(time.Minute)
		r.tweak = func(l *Loop) {
			l.cfg.Queue.Queued, l.cfg.Converged = state.Queued, state.Converged
			server := func(key string) func(ipvs.Op) bool {
				return func(op ipvs.Op) bool { return op.Verb == ipvs.AddServer && op.Key.String() == key }
			}
			l.cfg.IPVS = hangingTable{hangingTable{l.cfg.IPVS, server("-t 10.96.0.1:80"), first}, server("-t 10.96.0.2:80"), second}
		}
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.change(1, pods(1))
		synctest.Wait() // the turn hangs
		r.change(2, pods(1))
		close(first)
		synctest.Wait() // the next one hangs
		time.Sleep(time.Hour)
		if ok, _ := state.Healthy(); ok {
			t.Error("healthy though a change waits for an hour")
		}
		close(second)
		synctest.Wait()
		if ok, _ := state.Healthy(); !ok {
			t.Error("unhealthy though all is programmed")
		}
	})
}
