package loop

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/sync/plan"
)

// Rules that can be neither made nor looked at, since somebody holds the lock for ever or a program hangs, hold up only what
// needs them: not a changed endpoint, nor what others did to anything else. The attempt ends when they are made; until then
// something waits to be programmed, and after a doubt what was known stands.
func TestHungRulesHoldNothingUp(t *testing.T) {
	const on = "ipset add KIPVS-FRONTENDS 10.96.0.2,tcp:80 skbmark 0x4010/0x4010"
	for _, tt := range []struct {
		name    string
		hangs   string
		early   bool // they hang from the start
		changed bool // somebody changed them
		known   bool // they are known to stand
	}{
		{name: "at the start", hangs: "ensure rules", early: true},
		{name: "when somebody changed them", hangs: "ensure rules", changed: true},
		{name: "when they are looked at", hangs: "read rules", known: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				waits := false // something, to be programmed
				r.tweak = func(l *Loop) {
					converged := l.cfg.Converged
					l.cfg.Queue.Queued = func() { r.mu.Lock(); defer r.mu.Unlock(); waits = true }
					l.cfg.Converged = func(err error) { converged(err); r.mu.Lock(); defer r.mu.Unlock(); waits = waits && err != nil }
				}
				r.set(1, pods(1))
				var release func()
				if tt.early {
					release = r.hang(tt.hangs)
				}
				stop := r.start()
				r.queue.Synced()
				r.take()
				if !tt.early {
					release = r.hang(tt.hangs)
					if tt.changed {
						r.rules.Change(iptables.IPv4)
					}
					r.queue.Note(Kernel)
				}
				r.take()
				if waits == tt.known {
					t.Errorf("something waits to be programmed: %v", waits)
				}
				r.attempts()

				r.change(1, pods(1, 2))
				if got := r.take(); !contains(got, "ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1") {
					t.Errorf("a changed endpoint costs %v", got)
				}
				r.change(2, pods(1))
				if got := r.take(); contains(got, on) != tt.known {
					t.Errorf("a new Service costs %v", got)
				}
				r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: server(1)}})
				r.queue.Note(Kernel)
				time.Sleep(time.Minute)
				if got := r.take(); !contains(got, "ipvsadm -A -t 10.96.0.1:80 -s rr") || contains(got, tt.hangs) {
					t.Errorf("somebody removed a virtual server, and after a minute: %v", got)
				}
				if got := r.attempts(); errors.Join(got...) != nil || len(got) > 0 != tt.known || waits == tt.known {
					t.Errorf("attempts ended with %v, something waits: %v", got, waits)
				}

				release()
				if got := r.attempts(); len(got) == 0 || errors.Join(got...) != nil || waits {
					t.Errorf("released, attempts ended with %v, something waits: %v", got, waits)
				}
				if r.take(); !strings.Contains(r.sets.String(), "add KIPVS-FRONTENDS 10.96.0.2,tcp:80") {
					t.Error("the new Service is not on")
				}

				r.hang("read rules")
				r.queue.Note(Kernel)
				r.take()
				if stop(); r.hanging > 0 {
					t.Error("the loop ended before its job")
				}
			})
		})
	}
}

// The rules of both families are made at the same time.
func TestRulesOfBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = append(r.families, ipset.IPv6)
		release := r.hang("ensure rules")
		r.start()
		r.queue.Synced()
		made := slices.DeleteFunc(r.take(), func(what string) bool { return what != "ensure rules" })
		if len(made) != 2 {
			t.Errorf("%d are being made, want both", len(made))
		}
		release()
		if got := r.attempts(); len(got) == 0 || errors.Join(got...) != nil {
			t.Errorf("attempts %v, want success", got)
		}
	})
}

// Whoever changes anything while rules are made, or looked at, may have changed them.
func TestDoubtWhileAJobIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		release := r.hang("ensure rules")
		r.start()
		r.queue.Synced()
		r.take()
		for range 2 {
			r.queue.Note(Kernel)
			r.take()
			next := r.hang("read rules")
			release()
			release = next
			if got := r.take(); !contains(got, "read rules") {
				t.Errorf("not looked at: %v", got)
			}
		}
		release()
		if got := r.take(); contains(got, "read rules") {
			t.Errorf("looked at again without a doubt: %v", got)
		}
	})
}

// A set that is wanted no more is destroyed when no rule of an earlier version refers to it.
func TestSetsOutliveRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		old := ipset.Set{Name: plan.SetPrefix + "OLD", Type: ipset.HashIP, Family: ipset.IPv4}
		if err := r.sets.Create(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		release := r.hang("ensure rules")
		r.start()
		r.queue.Synced()
		r.take()
		if !strings.Contains(r.sets.String(), old.Name) {
			t.Error("destroyed before the rules are made")
		}
		release()
		r.take()
		if strings.Contains(r.sets.String(), old.Name) {
			t.Error("not destroyed when the rules are made")
		}
	})
}

// What was tracked while the rules did not stand is tracked as it went then: those flows are deleted when they are made.
func TestFlowsFollowTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var flows *conntrack.Fake
		r.tweak = func(l *Loop) { flows = l.cfg.Flows.(*conntrack.Fake) }
		r.set(1, pods(1), func(s *plan.Service) { s.Ports[0].Proto = ipvs.UDP })
		r.start()
		r.queue.Synced()
		r.take()
		before := len(flows.Calls())
		r.rules.Change(iptables.IPv4)
		r.queue.Note(Kernel)
		r.take()
		calls := flows.Calls()[before:]
		if len(calls) != 1 || len(calls[0]) != 1 || calls[0][0].At != netip.MustParseAddrPort("10.96.0.1:80") {
			t.Errorf("deleted flows: %v, want those of the Service", calls)
		}
	})
}
