//go:build kernel

package packet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// TestRestart ends the loop and starts another, again and again at any moment, while endpoints come and go. A Service that
// always has an endpoint is always served, and in the end all is as if one loop had done it alone.
func TestRestart(t *testing.T) {
	st := newStage(t, setup{detector: clusterCIDR})
	st.play("while endpoints change", inet.TCP, (*stage).restarts, func(st *stage) { st.svc.ExternalLocal = true })
}

const (
	restarts    = 30
	longestLife = 150 * time.Millisecond
)

func (st *stage) restarts() {
	random := rand.New(rand.NewPCG(1, 2))
	var lines []line
	for _, v6 := range []bool{false, true} {
		for _, from := range []source{fromPod, fromOutside} {
			lines = append(lines, st.dialTo("pod1", from, st.address(st.svc, toNodePort, v6)))
		}
	}
	others := plan.Service{}
	calls := st.callers()
	for i := range restarts {
		// pod1 stays ready: the Service always has an endpoint, here and everywhere.
		st.change([]endpoint{ready("pod1", true), [...]endpoint{
			ready("pod2", true), going("pod2", true), down("pod2", true), going("far1", false), ready("far1", false),
		}[random.IntN(5)]}...)
		other := service(100+i%7, inet.UDP)
		if st.set(other, st.slices(other.Name, inet.UDP, allReady)...); i%3 == 0 {
			st.remove(others.Name)
		}
		others = other
		time.Sleep(time.Duration(random.Int64N(int64(longestLife))))
		st.halt()
		st.run()
		st.queue.Synced()
		for _, c := range lines {
			st.holds(c)
		}
	}
	made, failed := calls()
	st.t.Logf("%d restarts; %d connections were made meanwhile, %d failed", restarts, made, len(failed))
	for _, err := range failed {
		st.t.Errorf("a connection failed: %v", err)
	}
	for _, c := range lines {
		st.must(c.Close())
	}
	st.likeFromScratch()
}

// callers connect all the time from everywhere. The function that is returned ends them, and says how many connections
// they made and which failed. Each has a port of its own: with one that a line has, or a closed connection that IPVS still
// knows, to another of the Service's addresses, IPVS would mix up the two.
func (st *stage) callers() func() (made int, failed []error) {
	ctx, stop := context.WithCancel(context.Background())
	var made atomic.Int64
	var mu sync.Mutex
	var failed []error
	var work sync.WaitGroup
	for _, from := range []source{fromPod, fromNode, fromOutside} {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				to := st.address(st.svc, frontends[i%len(frontends)], i%2 == 1)
				a := st.Ask(context.Background(), st.host(from), inet.TCP, to, lab.OwnPort(), lab.Wait(5*time.Second))
				made.Add(1)
				if a.Err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("from %v to %v: %w", from, to, a.Err))
					mu.Unlock()
				}
			}
		})
	}
	return func() (int, []error) {
		stop()
		work.Wait()
		return int(made.Load()), failed
	}
}

// likeFromScratch compares what is in the kernel with what one loop makes of a kernel that has nothing of ours. The Service goes and comes
// back before: real servers that drain would wait two minutes for connections that were closed.
func (st *stage) likeFromScratch() {
	st.t.Helper()
	st.remove(st.svc.Name)
	st.settle()
	st.endpoints(allReady...)
	got := st.state() + st.rules()
	st.halt()
	st.must(ipvsmode.Clean(context.Background(), st.cfg.Kernel))
	st.run()
	st.queue.Synced()
	st.settle()
	if diff := cmp.Diff(st.state()+st.rules(), got); diff != "" {
		st.t.Errorf("what one loop makes, and what stands after the restarts (-one +restarts):\n%s", diff)
	}
}
