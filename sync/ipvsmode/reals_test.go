package ipvsmode

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

func internalLocal(s *plan.Service) { s.InternalLocal = true }

// noLocal returns the gauge of Services without local endpoints, by policy.
func (r *rig) noLocal() map[string]float64 {
	r.t.Helper()
	out := map[string]float64{}
	for _, m := range r.series("kubeproxy_sync_proxy_rules_no_local_endpoints_total") {
		out[m.GetLabel()[1].GetValue()] += m.GetGauge().GetValue()
	}
	return out
}

// connect gives the real server 10.244.0.N of a Service connections.
func (r *rig) connect(service, n byte, active uint32) { r.connections(service, n, active, 0) }

func (r *rig) connections(service, n byte, active, inactive uint32) {
	r.t.Helper()
	key := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, service}), 80))
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, n}), 8080)
	if err := r.ipvs.SetConnections(ipvs.RealKeyOf(key, at), active, inactive); err != nil {
		r.t.Fatal(err)
	}
}

// What drains is looked at when it is time, and costs other changes nothing.
func TestDrainingCostsOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.set(2, pods(1))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.connect(1, 1, 3)
		r.take()
		r.change(1, pods(2))
		if diff := cmp.Diff([]string{"ipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0", "read -t 10.96.0.1:80"}, r.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.change(2, pods(1, 2))
		if diff := cmp.Diff([]string{"ipvsadm -a -t 10.96.0.2:80 -r 10.244.0.2:8080 -m -w 1"}, r.take()); diff != "" {
			t.Errorf("a change elsewhere (-want +got):\n%s", diff)
		}
		if got := r.metric("kube_ipvs_draining_real_servers").GetGauge().GetValue(); got != 1 {
			t.Errorf("%v real servers drain, want 1", got)
		}
		time.Sleep(drainInterval)
		if diff := cmp.Diff([]string{"read -t 10.96.0.1:80"}, r.take()); diff != "" {
			t.Errorf("a look (-want +got):\n%s", diff)
		}
		r.connect(1, 1, 0)
		time.Sleep(drainInterval)
		if diff := cmp.Diff([]string{"read -t 10.96.0.1:80", "ipvsadm -d -t 10.96.0.1:80 -r 10.244.0.1:8080"}, r.take()); diff != "" {
			t.Errorf("its end (-want +got):\n%s", diff)
		}
		time.Sleep(time.Hour)
		if got := r.take(); got != nil {
			t.Errorf("afterwards: %v", got)
		}
	})
}

// A virtual server that cannot be read keeps its real servers, and others lose theirs all the same.
func TestUnreadableIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.set(2, pods(1, 2))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.connect(1, 1, 3)
		r.take()
		r.let(refusing("read -t 10.96.0.1:80"))
		r.change(1, pods(2))
		r.change(2, pods(2))
		want := map[string]bool{
			"ipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0": true, "read -t 10.96.0.1:80": true,
			"ipvsadm -e -t 10.96.0.2:80 -r 10.244.0.1:8080 -m -w 0": true, "read -t 10.96.0.2:80": true,
			"ipvsadm -d -t 10.96.0.2:80 -r 10.244.0.1:8080": true,
		}
		for _, what := range r.take() {
			if !want[what] {
				t.Errorf("unexpected: %s", what)
			}
			delete(want, what)
		}
		if len(want) > 0 {
			t.Errorf("missing: %v", want)
		}
		r.let(nil)
		time.Sleep(retryMost)
		got := r.ipvs.Table().String()
		if want := "tcp 10.96.0.1:80 rr\n  -> 10.244.0.1:8080 w0 active 3 inactive 0\n  -> 10.244.0.2:8080 w1\ntcp 10.96.0.2:80 rr\n  -> 10.244.0.2:8080 w1\n"; got != want {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	})
}

// A client connects at the worst moment: when an endpoint that left was seen to have no connections, and before it is
// removed. It must find another, or be waited for.
func TestConnectionBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.start()
		r.queue.Synced()
		r.take()
		server, at := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80")), netip.MustParseAddrPort("10.244.0.1:8080")
		r.let(func(what string) error {
			if what == "ipvsadm -d -t 10.96.0.1:80 -r 10.244.0.1:8080" && r.ipvs.Table()[server].Reals[at].Weight > 0 {
				t.Error("a client came to a real server that is gone")
			}
			return nil
		})
		r.change(1, pods(2))
		want := []string{
			"ipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0", "read -t 10.96.0.1:80",
			"ipvsadm -d -t 10.96.0.1:80 -r 10.244.0.1:8080",
		}
		if diff := cmp.Diff(want, r.take()); diff != "" {
			t.Errorf("an endpoint without connections leaves (-want +got):\n%s", diff)
		}

		// One that connected before the weight was 0 is seen.
		r.change(1, pods(1, 2))
		r.take()
		r.let(func(what string) error {
			if what == "ipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0" {
				return r.ipvs.SetConnections(ipvs.RealKeyOf(server, at), 1, 0)
			}
			return nil
		})
		r.change(1, pods(2))
		if diff := cmp.Diff(want[:2], r.take()); diff != "" {
			t.Errorf("an endpoint that got a connection at last drains (-want +got):\n%s", diff)
		}
	})
}

// A real server whose weight the kernel refuses to change is not removed in spite of it, and tried again.
func TestUnquiescedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.start()
		r.queue.Synced()
		r.take()
		const quiesce = "ipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0"
		r.let(refusing(quiesce))
		r.change(1, pods(2))
		if diff := cmp.Diff([]string{quiesce}, r.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.let(nil)
		time.Sleep(retryMost)
		synctest.Wait()
		if got := r.ipvs.Table()[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))].Reals; len(got) != 1 {
			t.Errorf("after the retry: %v", got)
		}
	})
}

// However many drain: a change elsewhere costs what it cost before, and a check looks at a bounded number of virtual servers, in rounds.
func TestManyThatDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 2*mostChecks + 500
		r := newRig(t)
		for n := range many + 1 {
			r.set(n, pods(1, 2))
		}
		r.start()
		r.queue.Synced()
		r.take()
		one := func() {
			r.change(many, pods(1, 2, 3))
			r.change(many, pods(1, 2))
			r.take()
		}
		before := testing.AllocsPerRun(100, one)
		for n := range many {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), 80)
			if err := r.ipvs.SetConnections(ipvs.RealKeyOf(ipvs.AddrKey(inet.TCP, at), netip.MustParseAddrPort("10.244.0.1:8080")), 1, 0); err != nil {
				t.Fatal(err)
			}
			r.together = append(r.together, r.set(n, pods(2)))
		}
		one()
		if got := r.metric("kube_ipvs_draining_real_servers").GetGauge().GetValue(); got != many {
			t.Fatalf("%v real servers drain, want %d", got, many)
		}
		if now := testing.AllocsPerRun(100, one); now > 1.2*before {
			t.Errorf("a change elsewhere takes %.0f allocations, %.0f without those that drain", now, before)
		}
		var looked []string
		for range 3 {
			time.Sleep(drainInterval)
			reads := r.take()
			if len(reads) > mostChecks {
				t.Errorf("%d virtual servers are checked at a time, want at most %d", len(reads), mostChecks)
			}
			looked = append(looked, reads...)
		}
		slices.Sort(looked)
		if n := len(slices.Compact(looked)); n != many {
			t.Errorf("three checks looked at %d virtual servers, want all %d", n, many)
		}
	})
}

// What drained and is gone is forgotten, however it went.
func TestDrainsAreForgotten(t *testing.T) {
	key, at := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80")), netip.MustParseAddrPort("10.244.0.1:8080")
	loseOnce := func(r *rig, op string) {
		lost := false
		r.forget(func(what string) error {
			if what == op && !lost {
				lost = true
				return errRefused
			}
			return nil
		})
	}
	others := func(r *rig, op ipvs.Op) {
		r.othersDo(op)
		r.queue.Note(loop.Kernel)
	}
	for _, tt := range []struct {
		name string
		do   func(*rig)
	}{
		{"others removed the real server", func(r *rig) { others(r, ipvs.Op{Verb: ipvs.DelReal, Key: key, Addr: at}) }},
		{"others removed the virtual server", func(r *rig) { others(r, ipvs.Op{Verb: ipvs.DelServer, Key: key}) }},
		{"the answer to its removal is lost", func(r *rig) {
			r.connect(1, 1, 0)
			loseOnce(r, "ipvsadm -d -t 10.96.0.1:80 -r 10.244.0.1:8080")
		}},
		{"the answer to the removal of its virtual server is lost", func(r *rig) {
			loseOnce(r, "ipvsadm -D -t 10.96.0.1:80")
			r.remove(1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var d *Dataplane
				r.tweak = func(l *Dataplane) { d = l }
				r.set(1, pods(1, 2))
				r.start()
				r.queue.Synced()
				synctest.Wait()
				r.connect(1, 1, 3)
				r.change(1, pods(2))
				synctest.Wait()
				tt.do(r)
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := r.metric("kube_ipvs_draining_real_servers").GetGauge().GetValue(); n != 0 || !d.drainAt.IsZero() {
					t.Errorf("%v drain, and are checked at %v", n, d.drainAt)
				}
			})
		})
	}
}

// The limit counts from when an endpoint is listed no more, not from when it began to drain.
func TestDrainLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.connect(1, 1, 3)
		listed := pods(1, 2)
		listed[0].Ready, listed[0].Terminating = false, true
		r.change(1, listed)
		time.Sleep(24 * time.Hour)
		draining := func() bool {
			synctest.Wait()
			return len(r.ipvs.Table()[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))].Reals) == 2
		}
		if !draining() {
			t.Error("removed while it is listed")
		}
		r.change(1, pods(2))
		time.Sleep(time.Hour - time.Minute)
		if !draining() {
			t.Error("removed before its time")
		}
		time.Sleep(time.Minute + 2*drainInterval)
		if draining() {
			t.Error("still there after its time")
		}
	})
}

// A connection that is closed, or half closed, holds an endpoint as long as it is listed, and a few seconds after that.
func TestInactiveConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		there := func() bool {
			synctest.Wait()
			return len(r.ipvs.Table()[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))].Reals) == 2
		}
		r.connections(1, 1, 0, 2)
		listed := pods(1, 2)
		listed[0].Ready, listed[0].Terminating = false, true
		r.change(1, listed)
		time.Sleep(time.Hour)
		if !there() {
			t.Error("removed while it is listed and has connections")
		}
		r.connections(1, 1, 1, 2)
		r.change(1, pods(2))
		time.Sleep(30 * time.Minute)
		if !there() {
			t.Error("removed while it has an active connection")
		}
		r.connections(1, 1, 0, 3)
		time.Sleep(drainInterval + time.Millisecond)
		if !there() {
			t.Error("removed as soon as its last connection is half closed")
		}
		r.connections(1, 1, 1, 2)
		time.Sleep(10 * time.Minute)
		if !there() {
			t.Error("removed although a connection is active again")
		}
		r.connections(1, 1, 0, 3)
		time.Sleep(5 * time.Second)
		if there() {
			t.Error("still there 5s after its last active connection")
		}
	})
}

// An alias that is not needed any more goes at once, and nobody looks at its connections: they go on without, as those of its real
// servers do.
func TestAliasGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		alias := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:80"))
		for _, at := range []string{"10.244.0.1:8080", "10.244.0.2:8080"} {
			if err := r.ipvs.SetConnections(ipvs.RealKeyOf(alias, netip.MustParseAddrPort(at)), 1, 1); err != nil {
				t.Fatal(err)
			}
		}
		r.take()
		r.change(1, append(hereAndElsewhere()[1:], pods(3)...), atAddress("198.18.0.1"))
		got := r.take()
		ordered(t, got, "ipvsadm -d -t 255.18.0.1:80 -r 10.244.0.2:8080")
		r.change(1, hereAndElsewhere()[1:], atAddress("198.18.0.1"))
		got = append(got, r.take()...)
		ordered(t, got, "ipvsadm -D -t 255.18.0.1:80", "ipset del KIPVS-OWNED 255.18.0.1,tcp:80")
		for _, what := range got {
			if what == "read -t 255.18.0.1:80" || strings.HasPrefix(what, "ipvsadm -e -t 255.18.0.1:80") {
				t.Errorf("%s: want the real server removed at once", what)
			}
		}
	})
}
