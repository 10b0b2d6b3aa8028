package ipvsmode

import (
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
)

func TestTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = time.Second
		r.set(1, pods(1, 2))
		r.set(2, pods(1))
		r.set(3, nil)
		r.let(refusing("ipvsadm -a -t 10.96.0.2:80 -r 10.244.0.1:8080 -m -w 1"))
		r.start()
		expect := func(when string, want loop.Totals) {
			t.Helper()
			synctest.Wait()
			if got, err := r.loop.Summary(t.Context(), 0); err != nil || got.Totals != want {
				t.Errorf("%s: %+v, %v, want %+v", when, got.Totals, err, want)
			}
		}
		r.queue.Synced()
		expect("one is refused", loop.Totals{Frontends: 3, Programmed: 3, RealServers: 2, Pending: 1, Refused: 1})
		r.let(nil)
		time.Sleep(time.Minute)
		expect("all is made", loop.Totals{Frontends: 3, Programmed: 3, RealServers: 3})
		r.rules.Change(inet.IPv4)
		time.Sleep(time.Minute)
		expect("an external change", loop.Totals{Frontends: 3, Programmed: 3, RealServers: 3, Repaired: 1})
		r.remove(1)
		expect("one goes", loop.Totals{Frontends: 2, Programmed: 2, RealServers: 1, Repaired: 1})
	})
}
