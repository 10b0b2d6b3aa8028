//go:build kernel

package survive

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

var (
	seed  = flag.Uint64("seed", 1, "what decides when the program is killed and what changes meanwhile")
	kills = flag.Int("kills", 200, "how often the program is killed")
)

// life is how long the program lives: most often shorter than what it takes to start and to program everything, so that it
// is killed before and in the middle, and else long enough to be killed afterwards and while it removes what has drained.
func life(random *rand.Rand) time.Duration {
	if random.IntN(4) == 0 {
		return time.Second + time.Duration(random.Int64N(int64(time.Second)))
	}
	return time.Duration(random.Int64N(int64(450 * time.Millisecond)))
}

// callPause is the time between two calls of one caller: the one processor also has to run the program.
const callPause = 20 * time.Millisecond

// TestKilled kills the program again and again at any moment while manifests change, and starts it again. Connections that
// were there live on, new ones succeed all the time, and in the end all is as if one program had done it alone.
func TestKilled(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	t.Logf("seed %d", *seed)
	w := newWorld(t)
	lasting := []service{{n: 1}, {n: 2, local: true}, {n: 3}, {n: 4, local: true}}
	for _, s := range lasting {
		w.folder.put(s, w.endpoints("pod1", "pod2", "far1")...)
	}
	w.start()
	w.settle()

	held, drop := w.hold(lasting)
	calls := w.callers(lasting)
	started, there := 0, map[int]bool{}
	for i := range *kills {
		w.shuffle(random, lasting, there)
		time.Sleep(life(random))
		if w.healthy() {
			started++
		}
		w.kill()
		w.start()
		if i%4 == 0 {
			held()
		}
	}
	held()
	made, failed := calls()
	drop()
	t.Logf("%d kills, %d of them after the program was healthy; %d connections were made meanwhile, %d failed", *kills, started, made, len(failed))
	for _, err := range failed {
		t.Error(err)
	}
	w.likeFromScratch(lasting, there)
}

// shuffle changes some endpoints and lets a Service come or go. The first pod stays ready everywhere.
func (w *world) shuffle(random *rand.Rand, lasting []service, there map[int]bool) {
	for range 1 + random.IntN(3) {
		all := w.endpoints("pod1")
		for _, pod := range []string{"pod2", "far1"} {
			if c := random.IntN(4); c > 0 {
				all = append(all, w.endpoint(pod, []string{ready, going, absent}[c-1]))
			}
		}
		w.folder.put(lasting[random.IntN(len(lasting))], all...)
	}
	passing := service{n: 100 + random.IntN(10)}
	if there[passing.n] {
		w.folder.remove(passing.file())
		delete(there, passing.n)
		return
	}
	w.folder.put(passing, w.endpoints("pod1", "far1")...)
	there[passing.n] = true
}

// hold opens connections to the pod that stays, from everywhere to every Service. The first function says whether all
// live; the second ends them.
func (w *world) hold(services []service) (live, drop func()) {
	type line struct {
		*lab.Conn
		to string
	}
	var lines []line
	for _, s := range services {
		for _, from := range []*lab.Host{w.Pod("asker"), w.Client, w.Node} {
			v6 := len(lines)%2 == 1
			for {
				c, err := w.Dial(context.Background(), from, inet.TCP, s.clusterIP(v6), lab.Wait(10*time.Second))
				if err != nil {
					w.t.Fatal(err)
				}
				if a := c.Ask(context.Background()); a.Err != nil {
					w.t.Fatal(a.Err)
				} else if a.Who == "pod1" {
					lines = append(lines, line{c, fmt.Sprintf("%v to %v", from, s.clusterIP(v6))})
					break
				}
				check(w.t, c.Close())
			}
		}
	}
	live = func() {
		for _, l := range lines {
			if a := l.Ask(context.Background()); a.Who != "pod1" {
				w.t.Errorf("the connection from %s: %v", l.to, a)
			}
		}
	}
	return live, func() {
		w.t.Logf("%d connections lived through everything", len(lines))
		for _, l := range lines {
			check(w.t, l.Close())
		}
	}
}

// ports counts the calls of all tests: the kernel, which they share, remembers connections that were cut.
var ports atomic.Uint32

// callers connect all the time from everywhere. The function that is returned ends them, and says how many connections
// they made and which failed. Each call has a port of its own, which no connection that is held has: IPVS tells replies by
// the client and the real server, and mixes up two connections from one port to two Services that the same pod serves.
func (w *world) callers(services []service) func() (made int, failed []error) {
	ctx, stop := context.WithCancel(context.Background())
	var made atomic.Int64
	var mu sync.Mutex
	var failed []error
	var work sync.WaitGroup
	for _, from := range []*lab.Host{w.Pod("asker"), w.Client, w.Node} {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				s := services[i%len(services)]
				begin := time.Now()
				port := netip.AddrPortFrom(netip.Addr{}, uint16(10000+ports.Add(1)%20000))
				a := w.Ask(ctx, from, inet.TCP, s.clusterIP(i/len(services)%2 == 1), lab.From(port), lab.Wait(5*time.Second))
				if ctx.Err() != nil {
					return
				}
				made.Add(1)
				if a.Err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("from %v to service %d, after %v: %w", from, s.n, time.Since(begin), a.Err))
					mu.Unlock()
				}
				time.Sleep(callPause)
			}
		})
	}
	return func() (int, []error) {
		stop()
		work.Wait()
		return int(made.Load()), failed
	}
}

// likeFromScratch compares what stands with what one program makes of a kernel that has nothing of ours, and looks that
// the clean-up leaves the kernel as it was. Without Local policies: which number a second list has depends on who came
// first.
func (w *world) likeFromScratch(lasting []service, passing map[int]bool) {
	w.t.Helper()
	for _, s := range lasting {
		w.folder.put(service{n: s.n}, w.endpoints("pod1", "pod2", "far1")...)
	}
	w.settle()
	got := w.still(5 * time.Second) // drained endpoints go after two seconds, and are looked for every few
	w.terminate()
	w.clean()
	if diff := cmp.Diff(w.before, w.kernel()); diff != "" {
		w.t.Errorf("before the program, and after its clean-up (-before +after):\n%s", diff)
	}
	w.start()
	w.settle()
	if diff := cmp.Diff(w.still(time.Second), got); diff != "" {
		w.t.Errorf("what one program makes, and what stands in the end (-one +end):\n%s", diff)
	}
	w.t.Logf("%d Services stood in the end", len(lasting)+len(passing))
}
