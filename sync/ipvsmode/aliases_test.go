package ipvsmode

import (
	"context"
	"fmt"
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

// The lines of the ledger: each virtual server has its own, and is found by it.
func TestLedgerLines(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range []ipvs.Key{
		ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80")), ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort("10.96.0.1:80")),
		ipvs.AddrKey(inet.SCTP, netip.MustParseAddrPort("[fd00::1]:65535")), ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:1")),
	} {
		line := MemberOf(key)
		if got := MemberKey(line); got != key {
			t.Errorf("%v has the line %v, which is %v's", key, line, got)
		}
		if seen[line.String()] {
			t.Errorf("%v is another one's line, too", line)
		}
		seen[line.String()] = true
	}
}

// hereAndElsewhere has the endpoints of a Local policy whose frontends have an alias; atAddress gives a Service an external address with one.
func hereAndElsewhere() []plan.Endpoint {
	return append(pods(2), plan.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: "node1", Ready: true, Serving: true})
}

func atAddress(addr string) func(*plan.Service) {
	return func(s *plan.Service) {
		s.ExternalLocal, s.ExternalIPs = true, []netip.Addr{netip.MustParseAddr(addr)}
	}
}

func udp(s *plan.Service) { s.Ports[0].Proto = inet.UDP }

// A rule sends internal sources to an alias only while its virtual server stands.
func TestAliasOrder(t *testing.T) {
	const member = "198.18.0.1,tcp:80"
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		r.take()
		r.change(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		ordered(t, r.take(), "ipset add KIPVS-OWNED 255.18.0.1,tcp:80", "ipvsadm -A -t 255.18.0.1:80 -s rr", "ipvsadm -a -t 255.18.0.1:80 -r 10.244.0.1:8080",
			"ipvsadm -a -t 255.18.0.1:80 -r 10.244.0.2:8080", "ipset add KIPVS-FRONTENDS "+member, "ipset add KIPVS-INTERNAL "+member, "ipset add KIPVS-EXTERNAL "+member)
		r.change(1, pods(2), atAddress("198.18.0.1")) // none is here: external sources are dropped, and one list is enough
		ordered(t, r.take(), "ipset del KIPVS-INTERNAL "+member, "ipvsadm -D -t 255.18.0.1:80", "ipset del KIPVS-OWNED 255.18.0.1,tcp:80")
		r.let(refusing("ipvsadm -A -t 255.18.0.1:80 -s rr"))
		r.change(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		if contains(r.take(), "ipset add KIPVS-INTERNAL "+member) {
			t.Error("internal sources are sent to an alias that is not there")
		}
		r.let(nil)
		time.Sleep(retryMost)
		if !contains(r.take(), "ipset add KIPVS-INTERNAL "+member) {
			t.Error("internal sources are not sent to the alias after the retry")
		}
		r.let(refusing("ipset del KIPVS-INTERNAL " + member))
		r.remove(1)
		if got := r.take(); slices.ContainsFunc(got, func(what string) bool {
			return strings.HasPrefix(what, "ipvsadm -D -t 255.18.0.1:80") || strings.HasPrefix(what, "ipvsadm -d -t 255.18.0.1:80")
		}) {
			t.Errorf("the alias goes while internal sources are sent there:\n%s", strings.Join(got, "\n"))
		}
		r.let(nil)
		time.Sleep(retryMost)
		if left := r.ipvs.Table().String(); left != "" {
			t.Errorf("left over: %s", left)
		}
	})
}

// aliasOf returns what a rig's kernel sends internal sources to: the endpoints of the alias, or none where the frontend has none.
func (r *rig) aliasOf(addr string) []string {
	frontend := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.MustParseAddr(addr), 80))
	members, err := r.sets.Read(context.Background(), SetsOf(inet.FamilyOf(frontend.Addr)).Internal)
	if err != nil {
		r.t.Error(err)
	}
	if _, ok := members[MemberOf(frontend)]; !ok {
		return nil
	}
	frontend.Addr = Alias(frontend.Addr)
	var out []string
	for at := range r.ipvs.Table()[frontend].Reals {
		out = append(out, at.Addr().String())
	}
	slices.Sort(out)
	return out
}

// Two addresses with the same alias: the first that comes has it, users of the other are told, and it gets the alias when that is free.
func TestAliasOfTwo(t *testing.T) {
	const first, second = "198.18.0.1", "203.18.0.1"
	others := func() []plan.Endpoint { // of the second
		e := append(pods(4), hereAndElsewhere()[1])
		e[1].Addr = netip.MustParseAddr("10.244.0.3")
		return e
	}
	alias := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:80"))
	busy := func(r *rig) {
		for _, at := range []string{"10.244.0.1:8080", "10.244.0.2:8080"} {
			if err := r.ipvs.SetConnections(ipvs.RealKeyOf(alias, netip.MustParseAddrPort(at)), 1, 0); err != nil {
				r.t.Error(err)
			}
		}
	}
	ofFirst, ofSecond := []string{"10.244.0.1", "10.244.0.2"}, []string{"10.244.0.3", "10.244.0.4"}
	for _, tt := range []struct {
		name          string
		then          func(*rig)
		first, second []string // who serves internal sources through an alias
		told          bool     // that the second has none
	}{
		{"nothing", func(*rig) {}, ofFirst, nil, true},
		{"the first goes", func(r *rig) { r.remove(1) }, nil, ofSecond, false},
		{"the first needs it no more", func(r *rig) { r.change(1, pods(2), atAddress(first)) }, nil, ofSecond, false},
		{"the second changes", func(r *rig) { r.change(2, append(others(), pods(5)...), atAddress(second)) }, ofFirst, nil, true},
		{"the first changes", func(r *rig) { r.change(1, append(hereAndElsewhere(), pods(5)...), atAddress(first)) }, append(ofFirst, "10.244.0.5"), nil, true},
		{"the second goes", func(r *rig) { r.remove(2) }, ofFirst, nil, false},
		{"the second needs none", func(r *rig) { r.change(2, pods(4), atAddress(second)) }, ofFirst, nil, false},
		{"the first goes and comes back behind the second", func(r *rig) {
			r.remove(1)
			synctest.Wait()
			r.change(1, hereAndElsewhere(), atAddress(first))
		}, nil, ofSecond, false},
		{"the first has connections and goes", func(r *rig) { busy(r); r.remove(1) }, nil, ofSecond, false},
		{"the second changes after the first went", func(r *rig) {
			r.remove(1)
			synctest.Wait()
			r.change(2, append(others(), pods(5)...), atAddress(second))
		}, nil, append(ofSecond, "10.244.0.5"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				reports := map[string][]plan.Problem{}
				r.report = func(name plan.Name, p []plan.Problem) { reports[name.Name] = p }
				r.set(1, hereAndElsewhere(), atAddress(first))
				r.set(2, others(), atAddress(second))
				r.start()
				r.queue.Synced()
				synctest.Wait()
				tt.then(r)
				synctest.Wait()
				got := map[string][]string{"first": r.aliasOf(first), "second": r.aliasOf(second)}
				if diff := cmp.Diff(map[string][]string{"first": tt.first, "second": tt.second}, got); diff != "" {
					t.Errorf("internal endpoints (-want +got):\n%s", diff)
				}
				const want = "Service default/s00002: external IP 203.18.0.1:80 (tcp): pods and nodes get the endpoints on this node only: " +
					"198.18.0.1:80, another address with a Local policy, ends with the same bytes"
				told := fmt.Sprint(reports["s00002"])
				if tt.told != (told == "["+want+"]") || !tt.told && len(reports["s00002"]) > 0 {
					t.Errorf("told %s, want it told: %t", told, tt.told)
				}
				if errs := r.attempts(); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
					t.Errorf("attempts: %v", errs)
				}
			})
		})
	}
}

// However an alias's virtual server goes, who waits for the alias gets it, and not before rules send others' packets elsewhere.
func TestAliasIsPassedOn(t *testing.T) {
	const first, second = "198.18.0.1", "203.18.0.1"
	goes := func(r *rig) {
		for _, err := range r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:80"))}}) {
			t.Error(err)
		}
	}
	refuses := refusing("ipvsadm -D -t 255.18.0.1:80")
	for _, tt := range []struct {
		name   string
		remove func(*rig)
	}{
		{"the answer is lost", func(r *rig) { r.forget(refuses); r.remove(1); r.forget(nil) }},
		{"others remove it before it is tried again", func(r *rig) { r.let(refuses); r.remove(1); goes(r) }},
		{"others remove it while rules send packets there", func(r *rig) {
			r.let(refusing("ipset del KIPVS-INTERNAL " + first + ",tcp:80"))
			r.remove(1)
			goes(r)
			r.queue.Note(loop.Kernel)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(1, hereAndElsewhere(), atAddress(first))
				r.set(2, hereAndElsewhere(), atAddress(second))
				r.start()
				r.queue.Synced()
				synctest.Wait()
				tt.remove(r)
				if synctest.Wait(); r.aliasOf(second) != nil {
					t.Errorf("the second has the alias at once: %v", r.aliasOf(second))
				}
				r.let(nil)
				time.Sleep(2 * retryMost)
				if synctest.Wait(); len(r.aliasOf(second)) != 2 {
					t.Errorf("the second has %v", r.aliasOf(second))
				}
			})
		})
	}
}

// Who comes when an alias is free has it at once, and is not told of a frontend that is gone.
func TestFreeAliasIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		r.remove(1)
		synctest.Wait()
		r.change(2, hereAndElsewhere(), atAddress("203.18.0.1"))
		synctest.Wait()
		if len(r.aliasOf("203.18.0.1")) != 2 {
			t.Error("no alias")
		}
		if i := slices.IndexFunc(r.reports, func(s string) bool { return strings.Contains(s, "same bytes") }); i >= 0 {
			t.Errorf("told of a frontend that is gone: %s", r.reports[i])
		}
	})
}

// A frontend waits once for an alias, however often it changes, and no more when it goes; an alias that nobody needs is forgotten.
func TestAliasesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *Dataplane
		r := newRig(t)
		r.tweak = func(made *Dataplane) { d = made }
		r.set(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		r.set(2, hereAndElsewhere(), atAddress("203.18.0.1"))
		r.start()
		r.queue.Synced()
		before := len(newTables(MarksFor(14), false, []inet.Family{inet.IPv4}).aliases)
		waiting := func() int {
			synctest.Wait()
			return len(d.tables.aliases[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:80"))].waiting)
		}
		for i := range 1000 {
			r.change(2, append(hereAndElsewhere(), pods(byte(3+i%2))...), atAddress("203.18.0.1"))
			synctest.Wait()
		}
		if n := waiting(); n != 1 {
			t.Errorf("%d wait for an alias that one needs", n)
		}
		r.remove(2)
		if n := waiting(); n != 0 {
			t.Errorf("%d wait for an alias that none needs", n)
		}
		r.remove(1)
		r.change(3, pods(1))
		if synctest.Wait(); len(d.tables.aliases) != before || len(d.tables.unused) != 0 {
			t.Errorf("%d aliases are remembered, %d of them unused", len(d.tables.aliases)-before, len(d.tables.unused))
		}
	})
}

// An alias never passes to another frontend while rules send the packets of the first there, also not with a restart.
func TestAliasAfterRestart(t *testing.T) {
	const late, early = "198.18.0.1", "203.18.0.1"
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(2, hereAndElsewhere(), atAddress(early))
		stop := r.start()
		r.queue.Synced()
		synctest.Wait()
		stop()
		r.set(1, pods(9), atAddress(late)) // which is planned first, but came later
		r.slices[plan.Name{Namespace: "default", Name: "s00001"}][0].Endpoints = append(pods(9), plan.Endpoint{
			Addr: netip.MustParseAddr("10.244.0.8"), Node: "node1", Ready: true, Serving: true,
		})
		r.take()
		stop = r.start()
		r.queue.Synced()
		for _, what := range r.take() {
			if strings.Contains(what, "255.18.0.1") || strings.Contains(what, "KIPVS-INTERNAL "+late) {
				t.Errorf("after a restart: %s", what)
			}
		}
		if got := r.aliasOf(early); len(got) != 2 {
			t.Errorf("the first that came has the alias %v", got)
		}
		stop()
		delete(r.services, plan.Name{Namespace: "default", Name: "s00002"}) // while nobody looks
		r.take()
		r.start()
		r.queue.Synced()
		ordered(t, r.take(), "ipset del KIPVS-INTERNAL "+early+",tcp:80", "ipvsadm -D -t 255.18.0.1:80", "ipvsadm -A -t 255.18.0.1:80",
			"ipvsadm -a -t 255.18.0.1:80 -r 10.244.0.8:8080", "ipset add KIPVS-INTERNAL "+late+",tcp:80")
	})
}

// The families have aliases of their own. Their real servers go at once, whatever connections they have: those go on without.
func TestAliasesOfEachFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []inet.Family{inet.IPv4, inet.IPv6}
		setV6 := func(last ...string) plan.Name {
			endpoints := []plan.Endpoint{{Addr: netip.MustParseAddr("fd00:244::1"), Node: "node1", Ready: true, Serving: true}}
			for _, a := range last {
				endpoints = append(endpoints, plan.Endpoint{Addr: netip.MustParseAddr(a), Node: "node2", Ready: true, Serving: true})
			}
			name := r.set(2, endpoints, atAddress("2001:db8::1"), udp, func(s *plan.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd00:96::1")} })
			r.slices[name][0].Ports[0].Proto = inet.UDP
			return name
		}
		r.set(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		setV6("fd00:244::2", "fd00:244::3")
		r.start()
		r.queue.Synced()
		synctest.Wait()
		tcp := ipvs.RealKeyOf(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("255.18.0.1:80")), netip.MustParseAddrPort("10.244.0.2:8080"))
		udp := ipvs.RealKeyOf(ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort("[101:db8::1]:80")), netip.MustParseAddrPort("[fd00:244::2]:8080"))
		for _, k := range []ipvs.RealKey{tcp, udp} {
			if err := r.ipvs.SetConnections(k, 1, 0); err != nil {
				t.Errorf("%v: %v\n%v", k, err, r.ipvs.Table())
			}
		}
		r.change(1, append(hereAndElsewhere()[1:], pods(3)...), atAddress("198.18.0.1"))
		r.queue.ServiceChanged(setV6("fd00:244::3"))
		synctest.Wait()
		table := r.ipvs.Table()
		for _, k := range []ipvs.RealKey{tcp, udp} {
			if got := table[k.Server].Reals; len(got) != 2 {
				t.Errorf("%v has %v", k.Server, got)
			}
			if got, ok := table[k.Server].Reals[k.AddrPort()]; ok {
				t.Errorf("the real server %v is there: %+v", k, got)
			}
		}
	})
}
