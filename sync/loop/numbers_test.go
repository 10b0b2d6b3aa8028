package loop

import (
	"net/netip"
	"testing"
	"testing/synctest"

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
	n.release(listOf(1), 1)
	if owner, ok := n.owner(1); !ok || owner != listOf(1) {
		t.Errorf("number 1 is %v's, %v; it still has a user", owner, ok)
	}
	n.release(listOf(1), 1)
	if _, taken := n.used[1]; taken {
		t.Error("number 1 is still taken")
	}
	if owner, ok := n.owner(1); !ok || owner != listOf(1) {
		t.Errorf("number 1 is %v's, %v; want the one that had it last", owner, ok)
	}
	n.release(listOf(1), 1) // nobody has it
	n.release(listOf(2), 0) // a user that had none
	if _, ok := n.owner(2); !ok {
		t.Error("number 2 was given up for one that had none")
	}
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
