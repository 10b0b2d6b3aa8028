//go:build kernel

package survive

import (
	"context"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// flushLimit is within what time a flushed table must serve again: much more than it takes.
const flushLimit = 15 * time.Second

// TestFlushedUnderLoad flushes the whole IPVS table while everybody connects, as kube-proxy does when it starts in nftables
// mode or cleans up, and measures how long nobody is served. Connections that were there end, as IPVS itself forgets them.
func TestFlushedUnderLoad(t *testing.T) {
	w := newWorld(t)
	const services, flushes = 300, 5
	for n := range services {
		w.folder.put(service{n: n}, w.endpoints("pod1", "pod2", "far1")...)
	}
	w.start()
	w.settle()
	calls := w.callers([]service{{n: 1}, {n: 2}, {n: 3}})
	var slowest time.Duration
	for i := range flushes {
		time.Sleep(1500*time.Millisecond + time.Duration(i)*130*time.Millisecond) // at any moment between two looks
		w.shell("ipvsadm -C")
		begin := time.Now()
		for _, from := range []*lab.Host{w.Client, w.Pod("asker"), w.Node} {
			for _, n := range []int{0, services - 1} {
				for v6 := range 2 {
					for {
						to := service{n: n}.clusterIP(v6 == 1)
						if w.Ask(context.Background(), from, inet.TCP, to, lab.Wait(200*time.Millisecond)).Err == nil {
							break
						}
						if time.Since(begin) > flushLimit {
							t.Fatalf("%v is not served from %v %v after a flush", to, from, flushLimit)
						}
					}
				}
			}
		}
		took := time.Since(begin)
		t.Logf("flush %d: all served again after %v", i+1, took.Round(10*time.Millisecond))
		slowest = max(slowest, took)
	}
	made, failed := calls()
	t.Logf("%d virtual servers; %d calls, %d of them failed during %d flushes; the slowest repair took %v",
		2*services, made, len(failed), flushes, slowest.Round(10*time.Millisecond))
}
