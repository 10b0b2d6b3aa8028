package ipvsmode

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

func TestNothingBeforeSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.change(1, pods(1))
		r.queue.Note(loop.Kernel | loop.Node | loop.Addresses | loop.Routes)
		time.Sleep(time.Hour)
		if got := r.take(); got != nil || r.attempts() != nil || r.located > 0 {
			t.Errorf("before Synced: %v, the node %d times", got, r.located)
		}
		r.queue.Synced()
		if got := r.attempts(); len(got) != 1 || got[0] != nil {
			t.Errorf("attempts %v, want one that succeeds", got)
		}
		if len(r.ipvs.Table()) != 1 {
			t.Errorf("the Service is not served: %v", r.ipvs.Table())
		}
		r.take()
		r.queue.Synced()
		if got := r.take(); got != nil {
			t.Errorf("Synced again costs %v", got)
		}
	})
}

// What a change costs does not depend on how many Services there are: neither what the kernel is asked, nor the memory that
// is taken for it, nor the reading of anything.
func TestAChangeCostsWhatChanged(t *testing.T) {
	const few, many = 1_000, 20_000
	cost, allocations := map[int][]string{}, map[int]float64{}
	for _, size := range []int{few, many} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			for i := range size {
				r.set(i, pods(1, 2, 3))
			}
			r.start()
			r.queue.Synced()
			r.take()
			r.change(7, pods(1, 2, 3, 4))
			cost[size] = r.take()
			r.queue.ServiceChanged(plan.Name{Namespace: "default", Name: "s00007"})
			if got := r.take(); got != nil {
				t.Errorf("no change costs %v", got)
			}
			allocations[size] = testing.AllocsPerRun(100, func() {
				r.change(7, pods(1, 2, 3))
				r.take()
				r.change(7, pods(1, 2, 3, 4))
				r.take()
			})
		})
	}
	want := []string{"ipvsadm -a -t 10.96.0.7:80 -r 10.244.0.4:8080 -m -w 1"}
	for size, got := range cost {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d Services (-want +got):\n%s", size, diff)
		}
	}
	if allocations[many] > 1.2*allocations[few] {
		t.Errorf("%.0f allocations with %d Services, %.0f with %d", allocations[few], few, allocations[many], many)
	}
}

// One object that the kernel refuses holds nothing else up, and is tried again and read for only when it is due.
func TestOneFailureHoldsNothingUp(t *testing.T) {
	for _, refused := range []string{
		"ipset add KIPVS-OWNED 10.96.0.1,tcp:80",
		"ipvsadm -A -t 10.96.0.1:80 -s rr",
		"ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1",
		"ipset add KIPVS-FRONTENDS 10.96.0.1,tcp:80 skbmark 0x4010/0x4010",
		"ip route add local 10.96.0.0/12 dev kube-ipvs0 table local src 192.168.0.1",
	} {
		t.Run(refused, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(1, pods(1))
				r.set(2, pods(1))
				r.let(refusing(refused))
				r.start()
				r.queue.Synced()
				if !slices.Contains(r.take(), "ipset add KIPVS-FRONTENDS 10.96.0.2,tcp:80 skbmark 0x4010/0x4010") {
					t.Error("the other Service is not served")
				}
				if got := r.attempts(); len(got) != 1 || !errors.Is(got[0], errRefused) || !errors.Is(got[0], loop.ErrObjects) || !strings.Contains(got[0].Error(), refused) {
					t.Errorf("attempts %v, want one that says what failed", got)
				}
				r.change(2, pods(1, 2))
				if diff := cmp.Diff([]string{"ipvsadm -a -t 10.96.0.2:80 -r 10.244.0.2:8080 -m -w 1"}, r.take()); diff != "" {
					t.Errorf("a change elsewhere (-want +got):\n%s", diff)
				}
				if got := r.attempts(); len(got) != 1 || !errors.Is(got[0], errRefused) {
					t.Errorf("attempts %v: what failed is forgotten", got)
				}
				r.let(nil)
				time.Sleep(retryMost)
				if got := r.attempts(); len(got) != 1 || got[0] != nil {
					t.Errorf("attempts %v, want one that succeeds", got)
				}
				if got := r.ipvs.Table(); len(got[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))].Reals) != 1 {
					t.Errorf("after the retry:\n%v", got)
				}
			})
		})
	}
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		const refused = "ipvsadm -A -t 10.96.0.1:80 -s rr"
		start := time.Now()
		var at []time.Duration
		r.let(func(what string) error {
			if what != refused {
				return nil
			}
			at = append(at, time.Since(start))
			return errRefused
		})
		r.start()
		r.queue.Synced()
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			r.change(2, pods(1)) // neither brings the retry forward nor puts it off
		}
		synctest.Wait()
		var gaps []time.Duration
		for i := range at[1:] {
			gaps = append(gaps, at[i+1]-at[i])
		}
		ms := time.Millisecond
		want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10 * time.Second}
		if diff := cmp.Diff(want, gaps[:min(len(want), len(gaps))]); diff != "" {
			t.Errorf("time between retries (-want +got):\n%s", diff)
		}
		r.let(nil)
		time.Sleep(retryMost)
		at = nil
		r.attempts()
		r.let(refusing("ipvsadm -A -t 10.96.0.3:80 -s rr"))
		r.change(3, pods(1))
		if got := r.attempts(); len(got) != 1 {
			t.Fatalf("attempts %v", got)
		}
		time.Sleep(retryLeast)
		if got := r.attempts(); len(got) != 1 {
			t.Errorf("%d attempts %v after the first failure in a while, want one", len(got), retryLeast)
		}
	})
}

// An object that is refused for ever does not delay another that is refused once.
func TestBackOffOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		once := 0
		r.let(func(what string) error {
			isOther := what == "ipvsadm -a -t 10.96.0.2:80 -r 10.244.0.2:8080 -m -w 1"
			if isOther {
				once++
			}
			if what == "ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1" || isOther && once == 1 {
				return errRefused
			}
			return nil
		})
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute + time.Second)
		r.change(2, pods(2))
		time.Sleep(time.Second)
		if synctest.Wait(); once != 2 {
			t.Errorf("asked %d times for what is refused once", once)
		}
	})
}

// A layer that cannot be read is left alone: what is not known to be there may be, and what seems unwanted too.
func TestUnreadableIsNotEmpty(t *testing.T) {
	for _, unreadable := range []string{"read IPVS", "read KIPVS-FRONTENDS", "read KIPVS-OWNED", "read KIPVS-RANGED", "read KIPVS-HAIRPINS", "read routes", "read names"} {
		t.Run(unreadable, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				outside := func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.18.0.1")} }
				r.set(1, pods(1), outside)
				r.set(2, pods(1))
				stop := r.start()
				r.queue.Synced()
				r.take()
				r.attempts()
				stop()
				before := r.ipvs.Table().String() + r.sets.String() + r.steering.String()

				r.let(refusing(unreadable))
				stop = r.start()
				r.queue.Synced()
				time.Sleep(time.Minute)
				if got := r.ipvs.Table().String() + r.sets.String() + r.steering.String(); got != before {
					t.Errorf("changed (-before +after):\n%s", cmp.Diff(before, got))
				}
				for _, err := range r.attempts() {
					if !errors.Is(err, errRefused) {
						t.Errorf("attempt ended with %v", err)
					}
				}
				r.let(nil)
				time.Sleep(retryMost)
				if got := r.attempts(); len(got) == 0 || got[len(got)-1] != nil {
					t.Errorf("attempts %v, want the last to succeed", got)
				}
				stop()
			})
		})
	}
}

// Where one part cannot be read after a doubt, the others go on.
func TestUnreadableHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		r.take()
		r.let(refusing("read routes", "read KIPVS-HAIRPINS", "read rules"))
		r.queue.Note(loop.Kernel)
		r.change(2, pods(1))
		if !slices.Contains(r.take(), "ipset add KIPVS-FRONTENDS 10.96.0.2,tcp:80 skbmark 0x4010/0x4010") {
			t.Error("a new Service is not served")
		}
		r.let(nil)
		time.Sleep(retryMost)
		if got := r.attempts(); got[len(got)-1] != nil {
			t.Errorf("attempts %v", got)
		}
	})
}

// A node that cannot be asked where it is does not make the loop spin, nor everything that stands look unwanted.
func TestNodeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		stop := r.start()
		r.queue.Synced()
		synctest.Wait()
		stop()
		before := r.ipvs.Table().String() + r.sets.String()

		r.nodeError, r.located = errRefused, 0
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.ipvs.Table().String() + r.sets.String(); got != before {
			t.Errorf("changed (-before +after):\n%s", cmp.Diff(before, got))
		}
		if r.located < 5 || r.located > 20 {
			t.Errorf("asked %d times in a minute", r.located)
		}
		r.change(2, pods(1))
		r.mu.Lock()
		r.nodeError = nil
		r.mu.Unlock()
		time.Sleep(retryMost)
		if got := r.attempts(); got[len(got)-1] != nil || len(r.ipvs.Table()) != 2 {
			t.Errorf("attempts %v, table\n%v", got, r.ipvs.Table())
		}
	})
}

// Later, an error means that what was known of the node stands.
func TestNodeUnknownLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1), func(s *plan.Service) { s.Ports[0].NodePort = 30001 })
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.mu.Lock()
		r.nodeError = errRefused
		r.mu.Unlock()
		r.queue.Note(loop.Addresses)
		r.change(2, pods(1), func(s *plan.Service) { s.Ports[0].NodePort = 30002 })
		synctest.Wait()
		if got := len(r.ipvs.Table()); got != 4 {
			t.Errorf("%d virtual servers, want 4:\n%v", got, r.ipvs.Table())
		}
	})
}

// Rules that somebody changed are put in place again.
func TestRulesAreRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.rules.Change(inet.IPv4)
		r.queue.Note(loop.Kernel)
		synctest.Wait()
		if got := r.rules.Ensured(); got != 2 {
			t.Errorf("ensured %d times, want 2", got)
		}
		r.queue.Note(loop.Kernel)
		synctest.Wait()
		if got := r.rules.Ensured(); got != 2 {
			t.Errorf("ensured %d times although they stand, want 2", got)
		}
	})
}

// Only routes are read again when only routes were touched.
func TestRoutesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		r.take()
		r.queue.Note(loop.Routes)
		if diff := cmp.Diff([]string{"read routes"}, r.take()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestReportsAndHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		bad := func(s *plan.Service) {
			s.Problems = []plan.Problem{{Object: "Service x", Field: "spec", Reason: "is odd"}}
		}
		checked := func(s *plan.Service) { s.HealthCheckNodePort = 31000 }
		r.set(1, nil, bad)
		r.set(2, nil, checked)
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.change(1, pods(1), bad) // the same problem is not told again
		synctest.Wait()
		r.change(1, pods(1))
		r.change(2, nil)
		synctest.Wait()
		want := []string{"default/s00001 [Service x: spec: is odd]", "default/s00001 []"}
		if diff := cmp.Diff(want, r.reports); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		if len(r.health) != 2 || r.health[1] != "default/s00002 <nil>" {
			t.Errorf("health %v, want an answer and none", r.health)
		}
	})
}

// What users are told lasts as long as their Service does: another one of its name is told the same again. Notes are told,
// and not counted among what is not served.
func TestReportsOfARecreatedService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		as := func(uid string) func(*plan.Service) {
			return func(s *plan.Service) {
				s.UID, s.Problems = uid, []plan.Problem{{Object: "Service x", Field: "spec", Reason: "is wrong"},
					{Object: "Service x", Field: "spec", Reason: "is odd", Note: true}}
			}
		}
		r.set(1, nil, as("first"))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.change(1, pods(1), as("first"))
		synctest.Wait()
		r.change(1, pods(1), as("second"))
		synctest.Wait()
		const both = "default/s00001 [Service x: spec: is wrong Service x: spec: is odd]"
		if diff := cmp.Diff([]string{both, "default/s00001 []", both}, r.reports); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		if got := r.metric("kube_ipvs_service_problems").GetGauge().GetValue(); got != 1 {
			t.Errorf("%v problems are counted, want 1", got)
		}
	})
}

// A node port is at the addresses of one node, so that who has it is that node's affair; an external IP is everybody's.
func TestConflictsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		reports := map[string][]plan.Problem{}
		r.report = func(name plan.Name, p []plan.Problem) { reports[name.Name] = p }
		has := func(address string, node uint16) func(*plan.Service) {
			return func(s *plan.Service) {
				s.ExternalIPs, s.Ports[0].NodePort = []netip.Addr{netip.MustParseAddr(address)}, node
			}
		}
		r.set(1, pods(1), has("198.18.0.1", 80))
		r.set(2, pods(1), has("198.18.0.1", 0))
		r.set(3, pods(1), has("192.168.0.1", 0)) // the node's own
		r.start()
		r.queue.Synced()
		synctest.Wait()
		for name, here := range map[string]bool{"s00002": false, "s00003": true} {
			if got := reports[name]; len(got) != 1 || got[0].Here != here {
				t.Errorf("%s: %+v, want one with Here %t", name, got, here)
			}
		}
	})
}

// Clean removes what is ours and nothing else.
func TestClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()
		stranger := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("192.0.2.1:80"))
		if errs := r.ipvs.Do(ctx, []ipvs.Op{{Verb: ipvs.AddServer, Key: stranger, Server: ipvs.Server{Scheduler: "rr"}}}); errs != nil {
			t.Fatal(errs)
		}
		if err := r.sets.Create(ctx, ipset.Set{Name: "OTHERS", Type: ipset.HashIP, Family: inet.IPv4}); err != nil {
			t.Fatal(err)
		}
		endpoints := append(pods(2), plan.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: "node1", Ready: true, Serving: true})
		r.set(1, endpoints, func(s *plan.Service) {
			s.ExternalLocal, s.Ports[0].NodePort, s.ExternalIPs = true, 30001, []netip.Addr{netip.MustParseAddr("198.18.0.1")}
		})
		stop := r.start()
		r.queue.Synced()
		synctest.Wait()
		stop()

		r.let(refusing("ipvsadm -D -t 255.18.0.1:80"))
		if err := Clean(ctx, r.config().Kernel); !errors.Is(err, errRefused) {
			t.Errorf("Clean = %v, want what was refused", err)
		}
		if !strings.Contains(r.sets.String(), "KIPVS-OWNED") {
			t.Error("the ledger went although a server of ours stands")
		}
		r.let(nil)
		for range 2 { // the second finds nothing to do
			if err := Clean(ctx, r.config().Kernel); err != nil {
				t.Fatal(err)
			}
		}
		left := r.ipvs.Table().String() + r.sets.String() + r.steering.String()
		want := "tcp 192.0.2.1:80 rr\ncreate OTHERS hash:ip family inet maxelem 16777216\n"
		if left != want {
			t.Errorf("left over: %s", cmp.Diff(want, left))
		}
		for _, unreadable := range []string{"read KIPVS-OWNED", "read names", "read routes"} {
			r.let(refusing(unreadable))
			if err := Clean(ctx, r.config().Kernel); !errors.Is(err, errRefused) {
				t.Errorf("%s refused: Clean = %v", unreadable, err)
			}
		}
	})
}
