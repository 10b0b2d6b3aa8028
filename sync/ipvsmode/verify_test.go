package ipvsmode

import (
	"context"
	"errors"
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
)

// looking is a rig that looks every second, with so many Services.
func looking(t *testing.T, services int) *rig {
	r := newRig(t)
	r.lookInterval = time.Second
	for n := range services {
		r.set(n, pods(1, 2))
	}
	r.start()
	r.queue.Synced()
	time.Sleep(1500 * time.Millisecond)
	r.take()
	return r
}

// othersDo lets others change virtual servers.
func (r *rig) othersDo(op ipvs.Op) {
	r.t.Helper()
	if errs := r.ipvs.Do(r.t.Context(), []ipvs.Op{op}); errs != nil {
		r.t.Fatal(errs)
	}
}

func server(n byte) ipvs.Key {
	return ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, n}), 80))
}

// Whatever others do to virtual servers is seen with the next look, and mended, however many there are.
func TestLookSeesEveryServer(t *testing.T) {
	at := netip.MustParseAddrPort("10.244.0.1:8080")
	for name, op := range map[string]ipvs.Op{
		"a virtual server is removed": {Verb: ipvs.DelServer, Key: server(99)},
		"a scheduler is changed":      {Verb: ipvs.SetServer, Key: server(99), Server: ipvs.Server{Scheduler: "sh"}},
		"persistence is changed":      {Verb: ipvs.SetServer, Key: server(99), Server: ipvs.Server{Scheduler: "rr", Timeout: 9}},
		"a real server is removed":    {Verb: ipvs.DelReal, Key: server(99), Addr: at},
		"a real server is added":      {Verb: ipvs.AddReal, Key: server(99), Addr: netip.MustParseAddrPort("10.244.0.9:1"), Real: ipvs.Real{Weight: 1}},
		"a weight is changed":         {Verb: ipvs.SetReal, Key: server(99), Addr: at, Real: ipvs.Real{Weight: 0}},
		"one is added in our range":   {Verb: ipvs.AddServer, Key: server(200), Server: ipvs.Server{Scheduler: "rr"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := looking(t, 100)
				want := r.ipvs.Table().String()
				r.othersDo(op)
				time.Sleep(time.Second)
				synctest.Wait()
				if got := r.ipvs.Table().String(); got != want {
					t.Error("not mended after a second")
				}
				if o, err := r.loop.Overview(t.Context()); err != nil || len(o.Notable) != 1 || !slices.Equal(o.Notable[0].Repaired, []string{"servers"}) ||
					len(o.Changes) != 1 || o.Changes[0].Component != "servers" || o.Changes[0].Found != o.Changes[0].Repaired {
					t.Errorf("the overview has %+v, %+v, %v", o.Notable, o.Changes, err)
				}
				r.take()
				time.Sleep(3 * time.Second)
				if asked := r.take(); contains(asked, "read IPVS") {
					t.Errorf("read again without a reason: %v", asked)
				}
			})
		})
	}
}

// A repair counts when it is made, whatever single object the kernel refuses meanwhile.
func TestRepairCountsBesideARefusedObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 3)
		r.let(refusing("ipvsadm -a -t 10.96.0.9:80 -r 10.244.0.1:8080 -m -w 1"))
		r.change(9, pods(1))
		r.othersDo(ipvs.Op{Verb: ipvs.DelServer, Key: server(1)})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for name, want := range map[string]float64{"kube_ipvs_external_changes_total": 1, "kube_ipvs_external_changes_repaired_total": 1} {
			if got := r.values(name)["servers"]; got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		r.take()
		r.attempts()
	})
}

// A repair counts though the kernel refuses a new object between the change and the repair.
func TestRepairCountsThoughAnotherIsRefusedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 3)
		r.let(refusing("ipvsadm -a -t 10.96.0.9:80 -r 10.244.0.1:8080 -m -w 1"))
		release := r.hang("ensure rules")
		r.rules.Change(inet.IPv4)
		time.Sleep(3 * time.Second)
		r.change(9, pods(1))
		synctest.Wait()
		release()
		time.Sleep(time.Hour)
		synctest.Wait()
		inSync, err := r.rules.InSync(t.Context(), inet.IPv4)
		if got := r.values("kube_ipvs_external_changes_repaired_total")["rules"]; got != 1 || !inSync || err != nil {
			t.Errorf("%v repaired, want 1; rules in sync: %t, %v", got, inSync, err)
		}
		r.take()
		r.attempts()
	})
}

// What others removed and the kernel refuses is not repaired, also if it accepts another object that it refused before.
func TestRefusedRepairDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 3)
		r.let(refusing("ipvsadm -a -t 10.96.0.9:80 -r 10.244.0.1:8080 -m -w 1"))
		r.change(9, pods(1))
		time.Sleep(time.Minute)
		synctest.Wait()
		r.let(refusing("ipvsadm -A -t 10.96.0.1:80 -s rr"))
		r.othersDo(ipvs.Op{Verb: ipvs.DelServer, Key: server(1)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.values("kube_ipvs_external_changes_repaired_total")["servers"]; got != 0 {
			t.Errorf("%v repaired, want 0", got)
		}
		r.let(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.values("kube_ipvs_external_changes_repaired_total")["servers"]; got == 0 {
			t.Error("none repaired once the kernel accepts it")
		}
		r.take()
		r.attempts()
	})
}

// What the kernel's listing lacks, as other network namespaces have virtual servers, too, is no foreign change.
func TestLookThatLacksServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 100)
		r.ipvs.Unlist(server(98), server(99))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := r.values("kube_ipvs_external_changes_total")["servers"]; n != 0 {
			t.Errorf("%v foreign changes", n)
		}
		want := r.ipvs.Table().String()
		r.othersDo(ipvs.Op{Verb: ipvs.SetServer, Key: server(99), Server: ipvs.Server{Scheduler: "sh"}})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := r.ipvs.Table().String(); got != want {
			t.Error("a changed one that the listing lacks is not mended")
		}
	})
}

// However long it takes to look at everything: what is gone from a set altogether is seen at once, and all else when a
// thousandth of the time allows another look.
func TestLookSeesSets(t *testing.T) {
	sets := SetsOf(inet.IPv4)
	stranger := ipset.Op{Set: sets.Frontends, Member: ipset.Member{Addr: netip.MustParseAddr("192.0.2.1"), Proto: 6, Port: 80}}
	for _, tt := range []struct {
		name   string
		meddle func(*testing.T, *rig) []error
		after  time.Duration
	}{
		{"a set is flushed", func(t *testing.T, r *rig) []error {
			members, err := r.sets.Read(t.Context(), sets.Frontends)
			if err != nil {
				t.Fatal(err)
			}
			var ops []ipset.Op
			for m := range members {
				ops = append(ops, ipset.Op{Verb: ipset.Del, Set: sets.Frontends, Member: m})
			}
			return r.sets.Do(t.Context(), ops)
		}, time.Second},
		{"an empty set is destroyed", func(t *testing.T, r *rig) []error {
			return []error{r.sets.Destroy(t.Context(), sets.Allowed.Name)}
		}, share * time.Second},
		{"a member is added", func(t *testing.T, r *rig) []error { return r.sets.Do(t.Context(), []ipset.Op{stranger}) }, share * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.lookInterval = time.Second
				r.let(func(what string) error {
					if what == "walk" {
						time.Sleep(time.Second)
					}
					return nil
				})
				for n := range 100 {
					r.set(n, pods(1, 2))
				}
				r.start()
				r.queue.Synced()
				time.Sleep(3500 * time.Millisecond)
				synctest.Wait()
				want := r.sets.String()
				if err := errors.Join(tt.meddle(t, r)...); err != nil {
					t.Fatal(err)
				}
				waited := time.Duration(0)
				for ; waited < 2*share*time.Second && r.sets.String() != want; waited += time.Second {
					time.Sleep(time.Second)
					synctest.Wait()
				}
				if got := r.sets.String(); got != want || waited > tt.after {
					t.Errorf("seen after %v, with these sets:\n%s", waited, got)
				}
			})
		})
	}
}

// A single full scan that takes long, as on a node whose processors are busy, does not put off the next one.
func TestLookAfterALongLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const normal, long = time.Millisecond, time.Second
		r := newRig(t)
		r.lookInterval = time.Second
		looks := 0
		r.let(func(what string) error {
			if what == "walk" {
				if looks++; looks == 3 {
					time.Sleep(long)
				}
				time.Sleep(normal)
			}
			return nil
		})
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		time.Sleep(30*time.Second + share*normal)
		synctest.Wait()
		if looks < 10 {
			t.Errorf("%d full scans within half a minute", looks)
		}
	})
}

// What the loop itself changes, and what others do with virtual servers of their own elsewhere, is not taken for damage.
func TestLookIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 10)
		stranger := ipvs.Op{Verb: ipvs.SetServer, Key: ipvs.MarkKey(77, netip.IPv4Unspecified()), Server: ipvs.Server{Scheduler: "sh"}}
		add := stranger
		add.Verb = ipvs.AddServer
		r.ipvs.Do(t.Context(), []ipvs.Op{add})
		time.Sleep(time.Second) // that there is one more is a reason to look once
		r.take()
		for n := range 5 {
			r.change(100+n, pods(1))
			r.ipvs.Do(t.Context(), []ipvs.Op{stranger})
			time.Sleep(time.Second)
		}
		asked := r.take()
		if contains(asked, "read IPVS") {
			t.Errorf("read for our own changes: %v", asked)
		}
		if n := strings.Count(strings.Join(asked, "\n"), "count"); n != 5 {
			t.Errorf("%d looks in five seconds", n)
		}
	})
}

// While nothing changes the kernel is asked the same questions with every look, however many Services there are, and nothing is
// read whole. To look at everything takes longer the more there are, so it is done less often.
func TestLookCostsTheSame(t *testing.T) {
	const each = time.Millisecond // of each Service, when everything is looked at
	ask := func(services int) (questions map[string]int, everything int) {
		synctest.Test(t, func(t *testing.T) {
			r := looking(t, services)
			r.let(func(what string) error {
				if what == "walk" {
					time.Sleep(time.Duration(services) * each)
				}
				return nil
			})
			time.Sleep(time.Hour)
			questions = map[string]int{}
			for _, what := range r.take() {
				if words := strings.Fields(what); len(words) == 4 && words[1] == "test" {
					what = strings.Join(words[:3], " ") // any member will do
				}
				questions[what]++
			}
			everything = questions["walk"]
			delete(questions, "walk")
		})
		return questions, everything
	}
	few, ofFew := ask(10)
	many, ofMany := ask(300)
	if len(few) != 5 || !maps.Equal(few, many) { // how many virtual servers there are, and a member of each of four sets
		t.Errorf("asked with 10 Services %v, with 300 %v", few, many)
	}
	for services, walks := range map[int]int{10: ofFew, 300: ofMany} {
		if took := time.Duration(walks*services) * each; walks == 0 || took > time.Hour/share+time.Duration(services)*each {
			t.Errorf("%d Services were looked at %d times in an hour, for %v", services, walks, took)
		}
	}
}

// Rules that somebody changes as soon as they are made, before anything could be noted of them, are repaired.
func TestRulesChangedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = time.Second
		calls := 0
		r.rules.Fail = func() error {
			if calls++; calls == 2 { // the first makes them
				r.rules.Change(inet.IPv4)
			}
			return nil
		}
		r.start()
		r.queue.Synced()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if ok, err := r.rules.InSync(t.Context(), inet.IPv4); !ok || err != nil {
			t.Errorf("the rules are in sync: %v, %v", ok, err)
		}
	})
}

// Others who change rules of their own every second do not cost a process each time, and it is no damage. What they do to
// ours is seen within a minute then, and within a second where there was calm before.
func TestStrangersRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := looking(t, 1)
		time.Sleep(time.Second)
		r.take()
		looks := func() int { return strings.Count(strings.Join(r.take(), "\n"), "read rules") }
		churn := func(seconds int) {
			for range seconds {
				r.rules.Touch()
				time.Sleep(time.Second)
			}
		}
		if churn(10 * 60); looks() > 16 {
			t.Error("more looks at rules in ten minutes than it takes to learn that they come to nothing, and one a minute")
		}
		if r.drift() > 0 {
			t.Error("what others do to their own rules counts as damage")
		}
		r.queue.Note(loop.Kernel)
		if n := looks(); n != 1 {
			t.Errorf("%d looks after a doubt that others' rules did not raise, want one at once", n)
		}
		r.rules.Change(inet.IPv4)
		if churn(60); r.rules.Ensured() != 2 {
			t.Errorf("changed rules were not mended within a minute: made %d times", r.rules.Ensured())
		}
		time.Sleep(5 * time.Minute)
		r.take()
		for range 3 {
			r.rules.Touch()
			time.Sleep(time.Second)
			if n := looks(); n != 1 {
				t.Errorf("%d looks after a change that others made alone, want one", n)
			}
			time.Sleep(2 * time.Minute)
		}
		r.rules.Change(inet.IPv4)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n, counted := r.rules.Ensured(), r.drift(); n != 3 || counted != 2 {
			t.Errorf("made %d times, %v times counted as damage; want 3, 2", n, counted)
		}
	})
}

// drift is how often somebody else was seen to have changed what is ours.
func (r *rig) drift() (n float64) {
	for _, m := range r.series("kube_ipvs_external_changes_total") {
		n += m.GetCounter().GetValue()
	}
	return n
}

func contains(asked []string, what string) bool {
	return strings.Contains("\n"+strings.Join(asked, "\n")+"\n", "\n"+what+"\n")
}

// Rules cannot be made while a set is missing that they refer to. Then sets are looked at, however long the next look at
// everything takes to come.
func TestRulesThatLackASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := SetsOf(inet.IPv4).Allowed
		r := looking(t, 10)
		r.let(func(what string) error {
			switch _, err := r.sets.Read(context.Background(), allowed); {
			case what == "walk":
				time.Sleep(time.Second)
			case what == "ensure rules":
				return err
			}
			return nil
		})
		time.Sleep(3 * time.Second)
		if err := r.sets.Destroy(t.Context(), allowed.Name); err != nil {
			t.Fatal(err)
		}
		r.rules.Change(inet.IPv4)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if ok, err := r.rules.InSync(t.Context(), inet.IPv4); !ok || err != nil {
			t.Errorf("the rules are in sync: %v, %v", ok, err)
		}
	})
}
