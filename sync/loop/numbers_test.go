package loop

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

func listOf(port uint16) plan.InsideKey {
	return plan.InsideKey{Proto: ipvs.TCP, Port: port, Family: netip.IPv4Unspecified()}
}

func TestNumbers(t *testing.T) {
	nothing := func(uint32) bool { return false }
	n := newNumbers()
	if a, b := n.take(listOf(1), 0, nothing), n.take(listOf(2), 0, nothing); a != 1 || b != 2 {
		t.Errorf("the first numbers are %d and %d, want 1 and 2", a, b)
	}
	if got := n.take(listOf(1), 0, nothing); got != 1 {
		t.Errorf("a list's second user gets %d, want the list's 1", got)
	}
	n.release(listOf(1))
	if owner, ok := n.owner(1); !ok || owner != listOf(1) {
		t.Errorf("number 1 is %v's, %v; it still has a user", owner, ok)
	}
	n.release(listOf(1))
	if _, taken := n.used[1]; taken {
		t.Error("number 1 is still taken")
	}
	if owner, ok := n.owner(1); !ok || owner != listOf(1) {
		t.Errorf("number 1 is %v's, %v; want the one that had it last", owner, ok)
	}
	n.release(listOf(1)) // nobody has it
	for i, tt := range []struct {
		name   string
		before uint32
		isLeft func(uint32) bool
		want   uint32
	}{
		{"the one that it had before", 7, nothing, 7},
		{"the one that it had before is taken by now", 2, nothing, 3},
		{"one that was never a number", plan.Capacity + 1, nothing, 4},
		{"not one that something is left of", 0, func(n uint32) bool { return n < 9 }, 9},
		{"the one that it had before, though something is left of it: that is its own", 8, func(uint32) bool { return true }, 8},
		{"none", 0, func(uint32) bool { return true }, 0},
	} {
		if got := n.take(listOf(uint16(100+i)), tt.before, tt.isLeft); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A second list does not get the mark of somebody else's virtual server.
func TestNumberOfAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		strange := ipvs.MarkKey(plan.MarksFor(14).Number(1), netip.IPv4Unspecified())
		r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.AddServer, Key: strange, Server: ipvs.Server{Scheduler: "wrr"}}})
		here := pods(1)
		here[0].Node = "node1"
		r.set(1, append(here, pods(2)...), func(s *plan.Service) {
			s.ExternalLocal, s.ExternalIPs = true, []netip.Addr{netip.MustParseAddr("198.18.0.1")}
		})
		r.start()
		r.queue.Synced()
		if errs := r.attempts(); len(errs) != 1 || errs[0] != nil {
			t.Errorf("attempts: %v", errs)
		}
		table := r.ipvs.Table()
		if got := table[strange]; got.Server.Scheduler != "wrr" || len(got.Reals) > 0 {
			t.Errorf("the stranger's is now %v", got)
		}
		if got := table[ipvs.MarkKey(plan.MarksFor(14).Number(2), netip.IPv4Unspecified())]; len(got.Reals) != 2 {
			t.Errorf("the second list is %v", got)
		}
	})
}

// The lines of the ledger: each virtual server has its own, and is found by it.
func TestLedgerLines(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range []ipvs.Key{
		ipvs.AddrKey(ipvs.TCP, netip.MustParseAddrPort("10.96.0.1:80")), ipvs.AddrKey(ipvs.UDP, netip.MustParseAddrPort("10.96.0.1:80")),
		ipvs.AddrKey(ipvs.SCTP, netip.MustParseAddrPort("[fd00::1]:65535")), ipvs.AddrKey(ipvs.TCP, netip.MustParseAddrPort("0.0.16.1:1")),
		ipvs.MarkKey(0x1001, netip.IPv4Unspecified()), ipvs.MarkKey(0x1001, netip.IPv6Unspecified()),
		ipvs.MarkKey(0xffffffff, netip.IPv4Unspecified()), ipvs.MarkKey(0x40020000, netip.IPv6Unspecified()),
	} {
		line := lineOf(key)
		if got := serverOf(line); got != key {
			t.Errorf("%v has the line %v, which is %v's", key, line, got)
		}
		if seen[line.String()] {
			t.Errorf("%v is another one's line, too", line)
		}
		seen[line.String()] = true
	}
}

// hereAndElsewhere has the endpoints of a Local policy with a second list; local gives a Service one, at a node port.
func hereAndElsewhere() []plan.Endpoint {
	return append(pods(2), plan.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: "node1", Ready: true, Serving: true})
}

func local(n int) func(*plan.Service) {
	return func(s *plan.Service) { s.ExternalLocal, s.Ports[0].NodePort = true, uint16(30000+n) }
}

// wait demands that these Services have a second list without a number, and that they were told.
func (r *rig) wait(t *testing.T, want ...int) {
	t.Helper()
	synctest.Wait()
	told := map[string]bool{}
	for _, report := range r.reports {
		name, problems, _ := strings.Cut(report, " ")
		if told[name] = strings.Contains(problems, "endpoints on this node only"); !told[name] {
			delete(told, name)
		}
	}
	var names []string
	for _, n := range want {
		names = append(names, fmt.Sprintf("default/s%05d", n))
	}
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(told))); diff != "" {
		t.Errorf("told that no number is left (-want +got):\n%s", diff)
	}
	if got := r.metric("kube_ipvs_unnumbered_lists").GetGauge().GetValue(); int(got) != len(want) {
		t.Errorf("%v lists are counted, want %d", got, len(want))
	}
}

// inside returns the virtual server that pods are sent to from a Service's node port, if they have one of their own.
func (r *rig) inside(n int) (ipvs.Entry, bool) {
	marks, err := r.sets.Read(context.Background(), plan.SetsOf(ipset.IPv4).Inside)
	if err != nil {
		r.t.Error(err)
	}
	mark := marks[ipset.Member{Addr: netip.MustParseAddr("192.168.0.1"), Proto: uint8(ipvs.TCP), Port: uint16(30000 + n)}]
	entry, ok := r.ipvs.Table()[ipvs.MarkKey(mark.Value, netip.IPv4Unspecified())]
	return entry, ok
}

// Where the numbers are used up a Service is served with its local endpoints, told, and gets a number as soon as one is
// free: who waits longest comes first.
func TestNumbersUsedUp(t *testing.T) {
	const last, beyond = plan.Capacity, plan.Capacity + 1
	nothing := func(*rig) {}
	mark := func(n uint32) ipvs.Key {
		return ipvs.MarkKey(plan.MarksFor(14).Number(n), netip.IPv4Unspecified())
	}
	connections := func(r *rig, at netip.AddrPort, active uint32) {
		if err := r.ipvs.SetConnections(ipvs.RealKeyOf(mark(8), at), active, 0); err != nil {
			r.t.Error(err)
		}
	}
	tests := []struct {
		name  string
		first func(*rig) // before anything is programmed
		then  func(*rig)
		gets  []int // of the Services that wait, those that have a number then,
		goes  []int // those that are gone,
		waits []int // and those that wait still
	}{
		{"a Service goes", nothing, func(r *rig) { r.remove(7) }, []int{last}, nil, []int{beyond}},
		{"a Service needs a second list no more", nothing, func(r *rig) { r.change(7, pods(2), local(7)) }, []int{last}, nil, []int{beyond}},
		{"two go", nothing, func(r *rig) { r.remove(7); r.remove(8) }, []int{last, beyond}, nil, nil},
		{"the one that waits goes", nothing, func(r *rig) { r.remove(last) }, nil, []int{last}, []int{beyond}},
		{"the one that waits longest changes", nothing, func(r *rig) {
			r.change(last, append(hereAndElsewhere(), pods(3)...), local(last))
			synctest.Wait()
			r.remove(7)
		}, []int{last}, nil, []int{beyond}},
		{"something else changes", nothing, func(r *rig) { r.change(7, append(hereAndElsewhere(), pods(3)...), local(7)) }, nil, nil, []int{last, beyond}},
		{"a Service goes whose connections stay", nothing, func(r *rig) {
			at := netip.MustParseAddrPort("10.244.0.2:8080")
			connections(r, at, 1)
			r.remove(7)
			synctest.Wait()
			if _, ok := r.inside(last); ok {
				r.t.Error("its number is another's already")
			}
			connections(r, at, 0)
			time.Sleep(3 * drainInterval)
		}, []int{last}, nil, []int{beyond}},
		{"a stranger's virtual server goes",
			func(r *rig) {
				r.ipvs.Do(context.Background(), []ipvs.Op{{Verb: ipvs.AddServer, Key: mark(9), Server: ipvs.Server{Scheduler: "wrr"}}})
				delete(r.services, plan.Name{Namespace: "default", Name: fmt.Sprintf("s%05d", beyond)})
			},
			func(r *rig) {
				r.ipvs.Do(context.Background(), []ipvs.Op{{Verb: ipvs.DelServer, Key: mark(9)}})
				r.queue.Note(Kernel)
			}, []int{last - 1}, nil, []int{last}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				for i := range plan.Capacity + 2 {
					r.set(i, hereAndElsewhere(), local(i))
				}
				tt.first(r)
				r.start()
				r.queue.Synced()
				if got := r.attempts(); len(got) != 1 || got[0] != nil {
					t.Fatalf("attempts %v", got)
				}
				r.wait(t, slices.Sorted(slices.Values(slices.Concat(tt.gets, tt.goes, tt.waits)))...)
				r.take()
				tt.then(r)
				r.wait(t, tt.waits...)
				if asked := r.take(); len(asked) > 50 {
					t.Errorf("the kernel is asked for %d things", len(asked))
				}
				for _, n := range tt.gets {
					if entry, ok := r.inside(n); !ok || len(entry.Reals) < 2 {
						t.Errorf("s%05d has the second list %v, %v; want one of all endpoints", n, entry, ok)
					}
				}
			})
		})
	}
}

// Each family has all numbers: the same number is a list of TCP in one, whose real servers drain, and a list of UDP in the
// other, whose real servers go at once; and a stranger's mark in one family takes no number of the other.
func TestNumbersOfEachFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []ipset.Family{ipset.IPv4, ipset.IPv6}
		r.node.Addresses = append(r.node.Addresses, netip.MustParseAddr("fd00:192::1"))
		mark := func(n uint32, family netip.Addr) ipvs.Key { return ipvs.MarkKey(plan.MarksFor(14).Number(n), family) }
		strange := mark(1, netip.IPv4Unspecified())
		r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.AddServer, Key: strange, Server: ipvs.Server{Scheduler: "wrr"}}})
		v6 := func(s *plan.Service) {
			s.ClusterIPs, s.Ports[0].Proto = []netip.Addr{netip.MustParseAddr("fd00:96::1")}, ipvs.UDP
		}
		const there, here = "fd00:244::2", "fd00:244::1"
		setV6 := func(elsewhere ...plan.Endpoint) plan.Name {
			name := r.set(2, append(elsewhere, plan.Endpoint{Addr: netip.MustParseAddr(here), Node: "node1", Ready: true, Serving: true}), local(2), v6)
			r.slices[name][0].Ports[0].Proto = ipvs.UDP
			return name
		}
		r.set(1, hereAndElsewhere(), local(1))
		setV6(plan.Endpoint{Addr: netip.MustParseAddr(there), Ready: true, Serving: true}, plan.Endpoint{Addr: netip.MustParseAddr("fd00:244::3"), Ready: true, Serving: true})
		r.start()
		r.queue.Synced()
		synctest.Wait()
		tcp := ipvs.RealKeyOf(mark(2, netip.IPv4Unspecified()), netip.MustParseAddrPort("10.244.0.2:8080"))
		udp := ipvs.RealKeyOf(mark(1, netip.IPv6Unspecified()), netip.MustParseAddrPort("[fd00:244::2]:8080"))
		for _, k := range []ipvs.RealKey{tcp, udp} {
			if err := r.ipvs.SetConnections(k, 1, 0); err != nil {
				t.Errorf("%v: %v\n%v", k, err, r.ipvs.Table())
			}
		}
		r.change(1, append(hereAndElsewhere()[1:], pods(3)...), local(1))
		r.queue.ServiceChanged(setV6(plan.Endpoint{Addr: netip.MustParseAddr("fd00:244::3"), Ready: true, Serving: true}))
		synctest.Wait()
		table := r.ipvs.Table()
		if got, ok := table[tcp.Server].Reals[tcp.AddrPort()]; !ok || got.Weight != 0 {
			t.Errorf("the TCP real server is %+v, %v; want it to drain", got, ok)
		}
		if got, ok := table[udp.Server].Reals[udp.AddrPort()]; ok {
			t.Errorf("the UDP real server is there: %+v", got)
		}
	})
}
