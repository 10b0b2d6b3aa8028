package loop

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

var (
	foreignAddr = netip.MustParseAddrPort("203.0.113.5:80")
	foreignKey  = ipvs.AddrKey(ipvs.TCP, foreignAddr)
	foreignLine = "203.0.113.5,tcp:80"
)

// direct makes a virtual server, as the director of somebody else does.
func (r *rig) direct(k ipvs.Key) {
	if errs := r.ipvs.Do(r.t.Context(), []ipvs.Op{
		{Verb: ipvs.AddServer, Key: k, Server: ipvs.Server{Scheduler: "wlc"}},
		{Verb: ipvs.AddReal, Key: k, Addr: netip.MustParseAddrPort("192.0.2.20:80"), Real: ipvs.Real{Weight: 5}},
	}); errs != nil {
		r.t.Fatal(errs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.foreign[k] = true
}

// isDirected reports whether that is as it was made.
func isDirected(e ipvs.Entry) bool {
	want := map[netip.AddrPort]ipvs.RealState{netip.MustParseAddrPort("192.0.2.20:80"): {Real: ipvs.Real{Weight: 5}}}
	return e.Server == ipvs.Server{Scheduler: "wlc"} && maps.Equal(want, e.Reals)
}

// A virtual server of somebody else is left alone, whenever it comes and whatever a Service wants there.
func TestForeignServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(r *rig, want func())
	}{
		{"is there before the Service", func(r *rig, want func()) { r.direct(foreignKey); want() }},
		{"is there before the Service, of many", func(r *rig, want func()) {
			for i := range fewServers {
				r.set(100+i, pods(1), externalIP(fmt.Sprintf("198.18.1.%d", i)))
				r.queue.mu.Lock()
				r.queue.services[plan.Name{Namespace: "default", Name: fmt.Sprintf("s%05d", 100+i)}] = struct{}{}
				r.queue.mu.Unlock()
			}
			r.direct(foreignKey)
			want()
		}},
		{"comes when the line was written", func(r *rig, want func()) {
			r.after = func(op string) {
				if strings.HasPrefix(op, "ipset add KIPVS-OWNED "+foreignLine) {
					r.after = nil
					r.direct(foreignKey)
				}
			}
			want()
		}},
		{"is there before the Service, and all is read again", func(r *rig, want func()) {
			r.direct(foreignKey)
			want()
			r.queue.Note(Kernel)
			synctest.Wait()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.lookInterval = LookInterval
				r.set(1, pods(1))
				stop := r.start()
				r.queue.Synced()
				synctest.Wait()
				tt.do(r, func() { r.change(2, pods(2), externalIP("203.0.113.5")); synctest.Wait() })
				untouched := func(when string) {
					t.Helper()
					synctest.Wait()
					if !isDirected(r.ipvs.Table()[foreignKey]) || strings.Contains(r.sets.String(), foreignLine) {
						t.Errorf("%s: %v, sets:\n%v", when, r.ipvs.Table()[foreignKey], r.sets)
					}
				}
				untouched("at once")
				want := "default/s00002 [Service default/s00002: external IP 203.0.113.5:80 (tcp): is not served: " + errForeign.Error() + "]"
				if len(r.reports) != 1 || r.reports[0] != want {
					t.Errorf("told %q, want %q", r.reports, want)
				}
				time.Sleep(time.Minute)
				untouched("after a minute")
				r.change(2, pods(3), externalIP("203.0.113.5"))
				untouched("after an endpoint changed")
				stop()
				r.start()
				r.queue.Synced()
				untouched("after a restart")
				r.remove(2)
				time.Sleep(time.Minute)
				untouched("when the Service is gone")
			})
		})
	}
}

// However many Services want what somebody else serves, the node is as healthy as before: whoever may create Services could take
// all of them from it.
func TestForeignServersHinderNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 2 * manyRefused {
			a := fmt.Sprintf("203.0.113.%d", i)
			r.direct(ipvs.AddrKey(ipvs.TCP, netip.AddrPortFrom(netip.MustParseAddr(a), 80)))
			r.set(i, nil, func(s *plan.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr(a)} })
		}
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour)
		for _, err := range r.attempts() {
			if err != nil && !errors.Is(err, ErrObjects) {
				t.Fatalf("unhealthy: %v", err)
			}
		}
		if len(r.reports) != 2*manyRefused {
			t.Errorf("%d Services were told", len(r.reports))
		}
	})
}

// When the other one goes, who waited is served. When the Service goes first, nothing is remembered.
func TestForeignServerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var l *Loop
		r.tweak = func(tweaked *Loop) { l = tweaked }
		r.start()
		r.queue.Synced()
		r.direct(foreignKey)
		r.change(2, pods(2), externalIP("203.0.113.5"))
		time.Sleep(time.Minute)
		r.take()
		time.Sleep(time.Minute)
		if got := slices.Compact(r.take()); !slices.Equal(got, []string{"read -t 203.0.113.5:80"}) {
			t.Errorf("waiting costs %q", got)
		}
		r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: foreignKey}})
		time.Sleep(retryMost)
		synctest.Wait()
		if got := r.ipvs.Table()[foreignKey].Reals; len(got) != 1 || !strings.Contains(r.sets.String(), foreignLine) {
			t.Errorf("served by %v, sets:\n%v", got, r.sets)
		}
		if last := r.reports[len(r.reports)-1]; last != "default/s00002 []" {
			t.Errorf("told at last: %s", last)
		}
		r.remove(2)
		r.direct(foreignKey)
		r.change(2, pods(2), externalIP("203.0.113.5"))
		synctest.Wait()
		r.remove(2)
		if f := l.foreign; len(f.keys)+len(f.fresh) > 0 {
			t.Errorf("remembered: %v", f)
		}
	})
}

// What the ledger names is ours, and so is what has a cluster IP: whoever removed one may have put it back.
func TestServersThatAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		clusterKey := ipvs.AddrKey(ipvs.TCP, netip.MustParseAddrPort("10.96.0.2:80"))
		r.direct(clusterKey)
		r.direct(foreignKey)
		owned := plan.SetsOf(ipset.IPv4).Owned
		if err := r.sets.Create(t.Context(), owned); err != nil {
			t.Fatal(err)
		}
		r.sets.Do(t.Context(), []ipset.Op{{Verb: ipset.Add, Set: owned, Member: memberOf(foreignKey)}})
		r.set(2, pods(2), externalIP("203.0.113.5"))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		for _, k := range []ipvs.Key{clusterKey, foreignKey} {
			if got := r.ipvs.Table()[k]; got.Server.Scheduler != "rr" || len(got.Reals) != 1 {
				t.Errorf("%v: %v", k, got)
			}
		}
		if len(r.reports) > 0 {
			t.Errorf("told %q", r.reports)
		}
	})
}

// A server that we made stays ours when its line is removed by hand, also where everything is read again before the line is
// written again.
func TestLedgerIsFlushed(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.lookInterval = LookInterval
			r.set(2, pods(2), externalIP("203.0.113.5"))
			r.start()
			r.queue.Synced()
			synctest.Wait()
			owned := plan.SetsOf(ipset.IPv4).Owned
			for m := range r.membersOf(owned) {
				r.sets.Do(t.Context(), []ipset.Op{{Verb: ipset.Del, Set: owned, Member: m}})
			}
			if gone {
				r.remove(2)
			}
			r.queue.Note(Kernel)
			time.Sleep(time.Minute)
			synctest.Wait()
			_, served := r.ipvs.Table()[foreignKey]
			if served == gone || strings.Contains(r.sets.String(), foreignLine) == gone || len(r.reports) > 0 {
				t.Errorf("the Service is gone: %v, served: %v, told: %q, sets:\n%v", gone, served, r.reports, r.sets)
			}
		})
	}
}
