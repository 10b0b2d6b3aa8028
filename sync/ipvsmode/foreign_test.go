package ipvsmode

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

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

var (
	foreignAddr = netip.MustParseAddrPort("203.0.113.5:80")
	foreignKey  = ipvs.AddrKey(inet.TCP, foreignAddr)
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
				r.together = append(r.together, r.set(100+i, pods(1), externalIP(fmt.Sprintf("198.18.1.%d", i))))
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
			r.queue.Note(loop.Kernel)
			synctest.Wait()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.lookInterval = loop.LookInterval
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

// Source ranges of a Service drop no client of a virtual server of somebody else. They hold as soon as the Service is served.
func TestRangesSpareForeignServers(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("comes when the line was written=%v", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				ranged := SetsOf(inet.IPv4).Ranged
				r.start()
				r.queue.Synced()
				if late {
					r.after = func(op string) {
						if strings.HasPrefix(op, "ipset add "+ranged.Name+" "+foreignLine) {
							r.after = nil
							r.direct(foreignKey)
						}
					}
				} else {
					r.direct(foreignKey)
				}
				r.change(2, pods(2), guarded("203.0.113.5"))
				for range 2 {
					synctest.Wait()
					if !isDirected(r.ipvs.Table()[foreignKey]) || len(r.membersOf(ranged)) > 0 {
						t.Errorf("%v, sets:\n%v", r.ipvs.Table()[foreignKey], r.sets)
					}
					time.Sleep(time.Minute)
				}
				r.take()
				r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: foreignKey}})
				time.Sleep(retryMost)
				ordered(t, r.take(), "ipset add "+ranged.Name+" "+foreignLine, "ipvsadm -A -t 203.0.113.5:80", "ipset add KIPVS-FRONTENDS "+foreignLine)
			})
		})
	}
}

// However many Services want what somebody else serves, the node is as healthy as before: whoever may create Services could take
// all of them from it.
func TestForeignServersHinderNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const many = 20
		for i := range many {
			a := fmt.Sprintf("203.0.113.%d", i)
			r.direct(ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.MustParseAddr(a), 80)))
			r.set(i, nil, func(s *plan.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr(a)} })
		}
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour)
		for _, err := range r.attempts() {
			if err != nil && !errors.Is(err, loop.ErrObjects) {
				t.Fatalf("unhealthy: %v", err)
			}
		}
		if len(r.reports) != many {
			t.Errorf("%d Services were told", len(r.reports))
		}
	})
}

// When the other one goes, who waited is served. When the Service goes first, nothing is remembered.
func TestForeignServerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var l *Dataplane
		r.tweak = func(tweaked *Dataplane) { l = tweaked }
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
		clusterKey := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.2:80"))
		r.direct(clusterKey)
		r.direct(foreignKey)
		owned := SetsOf(inet.IPv4).Owned
		if err := r.sets.Create(t.Context(), owned); err != nil {
			t.Fatal(err)
		}
		r.sets.Do(t.Context(), []ipset.Op{{Verb: ipset.Add, Set: owned, Member: MemberOf(foreignKey)}})
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
			r.lookInterval = loop.LookInterval
			r.set(2, pods(2), externalIP("203.0.113.5"))
			r.start()
			r.queue.Synced()
			synctest.Wait()
			owned := SetsOf(inet.IPv4).Owned
			for m := range r.membersOf(owned) {
				r.sets.Do(t.Context(), []ipset.Op{{Verb: ipset.Del, Set: owned, Member: m}})
			}
			if gone {
				r.remove(2)
			}
			r.queue.Note(loop.Kernel)
			time.Sleep(time.Minute)
			synctest.Wait()
			_, served := r.ipvs.Table()[foreignKey]
			if served == gone || strings.Contains(r.sets.String(), foreignLine) == gone || len(r.reports) > 0 {
				t.Errorf("the Service is gone: %v, served: %v, told: %q, sets:\n%v", gone, served, r.reports, r.sets)
			}
		})
	}
}

// A Service at a virtual server of somebody else does not hold a take-over up, and nothing is diverted to that server.
func TestForeignServerBesideKubeProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = 500 * time.Millisecond
		r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
		r.direct(foreignKey)
		r.set(1, pods(1), externalIP("198.18.0.9"))
		r.set(2, pods(2), externalIP(foreignAddr.Addr().String()))
		r.after = func(op string) {
			if op == "ipset add KIPVS-EXTERNAL "+foreignLine {
				t.Error(op)
			}
		}
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		if left, err := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 0 || err != nil {
			t.Errorf("%v of kube-proxy are left, %v", left, err)
		}
		if !isDirected(r.ipvs.Table()[foreignKey]) {
			t.Error("somebody's virtual server was changed")
		}
	})
}

// What somebody else's virtual server keeps from being served is an address conflict of its Service's. Nothing fails, and nothing is pending:
// the alert KubeIPVSNotProgrammed is for what the kernel rejects.
func TestForeignServerIsNotPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.direct(foreignKey)
		r.change(2, pods(2), externalIP("203.0.113.5"))
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		for _, name := range []string{"kube_ipvs_layer_objects", "kube_ipvs_layer_operation_failures_total"} {
			for labels, value := range r.values(name) {
				if !strings.Contains(labels, "present") {
					t.Errorf("%s %s %v", name, labels, value)
				}
			}
		}
	})
}
