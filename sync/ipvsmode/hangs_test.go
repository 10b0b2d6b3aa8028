package ipvsmode

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/health"
)

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

// What comes during a sync waits from its end on, though that says that all is well: the next sync may hang.
func TestWhatComesDuringATurnWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, second := make(chan struct{}), make(chan struct{})
		state := health.NewState(time.Minute)
		r.tweak = func(l *Dataplane) {
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
		synctest.Wait() // the sync hangs
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
