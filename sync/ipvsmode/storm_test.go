package ipvsmode

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// opTime is what an operation on the table takes in a storm: many times what it takes a kernel.
const opTime = 100 * time.Microsecond

// A slowTable takes time.
type slowTable struct{ ipvs.Kernel }

func (s slowTable) Do(ctx context.Context, ops []ipvs.Op) []error {
	time.Sleep(time.Duration(len(ops)) * opTime)
	return s.Kernel.Do(ctx, ops)
}

// reals returns the real servers of the n-th Service, as the last bytes of their addresses.
func (r *rig) reals(n int) map[byte]bool {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), 80)
	out := map[byte]bool{}
	for real := range r.ipvs.Table()[ipvs.AddrKey(inet.TCP, at)].Reals {
		out[real.Addr().As4()[3]] = true
	}
	return out
}

// programmed waits until the n-th Service has exactly these endpoints, and returns how long that took.
func (r *rig) programmed(n int, want ...byte) time.Duration {
	r.t.Helper()
	begin := time.Now()
	for {
		got := r.reals(n)
		right := len(got) == len(want)
		for _, b := range want {
			right = right && got[b]
		}
		if right {
			return time.Since(begin)
		}
		if time.Since(begin) > time.Minute {
			r.t.Fatalf("Service %d has %v after a minute, want %v", n, got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// A thousand changes a second for a minute, among them the same ones again and again: what waits is bounded by what
// exists, another Service's change waits less than a second, and what is programmed in the end is the last state.
func TestStorm(t *testing.T) {
	const services, rate, unrelated = 200, 1000, 999
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.slow = true
		for n := range services {
			r.set(n, pods(1))
		}
		r.set(unrelated, pods(1))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		random := rand.New(rand.NewPCG(1, 1))
		last, most := map[int]byte{}, 0
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(time.Second / rate); ; {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
				n, b := random.IntN(services), byte(2+random.IntN(200))
				last[n] = b
				r.change(n, pods(1, b))
				most = max(most, r.queue.Len())
			}
		}()
		var slowest time.Duration
		for i := range byte(60) {
			r.change(unrelated, pods(1, 2+i))
			took := r.programmed(unrelated, 1, 2+i)
			slowest = max(slowest, took)
			time.Sleep(time.Second - took)
		}
		close(stop)
		<-ended
		t.Logf("%d changes waited at most, another Service's took at most %v", most, slowest)
		if most > services+1 {
			t.Errorf("%d changes waited, of %d Services", most, services)
		}
		if slowest > time.Second {
			t.Errorf("another Service's change took %v", slowest)
		}
		time.Sleep(10 * time.Second)
		for n, b := range last {
			r.programmed(n, 1, b)
		}
	})
}

// Every Service at once changes, and the sources say again that they have said everything: one attempt, and nothing is
// removed and made again that stays.
func TestEverythingChangesAtOnce(t *testing.T) {
	const services = 2000
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.slow = true
		for n := range services {
			r.set(n, pods(1, 2))
		}
		r.start()
		r.queue.Synced()
		time.Sleep(10 * time.Second)
		r.take()
		r.attempts()
		for round := range byte(2) {
			b := 10 + round
			begin := time.Now()
			for n := range services {
				r.change(n, pods(1, b))
			}
			if round == 1 { // the sources begin anew, and so does the node
				r.queue.Synced()
				r.queue.NodeChanged()
			}
			r.programmed(services-1, 1, b)
			t.Logf("%d Services took %v", services, time.Since(begin))
			time.Sleep(10 * time.Second)
			for n := range services {
				r.programmed(n, 1, b)
			}
			for _, op := range r.take() {
				if strings.Contains(op, " -A ") || strings.Contains(op, " -D ") || strings.Contains(op, "10.244.0.1:") {
					t.Fatalf("what stays was touched: %s", op)
				}
			}
			if n := len(r.attempts()); n > 2 {
				t.Errorf("%d attempts for one change of everything", n)
			}
		}
	})
}
