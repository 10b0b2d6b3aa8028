package ipvsmode

import (
	"errors"
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

// guarded gives a Service a load balancer with source ranges.
func guarded(at string) func(*plan.Service) {
	return func(s *plan.Service) {
		s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr(at)}
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}
}

// A frontend comes on last and goes off first; its guard stands as long as IPVS has its server.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		r.take()
		const member = "198.18.0.1,tcp:80"
		r.change(1, pods(1), guarded("198.18.0.1"))
		ordered(t, r.take(), "ipset add KIPVS-OWNED "+member, "ipset add KIPVS-ALLOWED "+member, "ipset add KIPVS-RANGED "+member,
			"ipvsadm -A -t 198.18.0.1:80", "ipvsadm -a -t 198.18.0.1:80", "ipset add KIPVS-FRONTENDS "+member, "ipset add KIPVS-EXTERNAL "+member)
		r.remove(1)
		ordered(t, r.take(), "ipset del KIPVS-EXTERNAL "+member, "ipset del KIPVS-FRONTENDS "+member, "ipvsadm -D -t 198.18.0.1:80", "ipset del KIPVS-RANGED "+member,
			"ipset del KIPVS-ALLOWED "+member, "ipset del KIPVS-OWNED "+member)

		r.let(refusing("ipset add KIPVS-RANGED " + member))
		r.change(1, pods(1), guarded("198.18.0.1"))
		for _, what := range r.take() {
			if strings.HasPrefix(what, "ipset add KIPVS-FRONTENDS "+member) || strings.HasPrefix(what, "ipvsadm -A -t 198.18.0.1:80") {
				t.Errorf("without its guard: %s", what)
			}
		}
		r.let(nil)
		time.Sleep(retryMost)
		r.let(refusing("ipvsadm -D -t 198.18.0.1:80"))
		r.take()
		r.remove(1)
		if got := r.take(); !slices.Contains(got, "ipset del KIPVS-FRONTENDS "+member) || slices.Contains(got, "ipset del KIPVS-RANGED "+member) {
			t.Errorf("the guard goes before the virtual server, or the frontend stays:\n%s", strings.Join(got, "\n"))
		}
	})
}

func ordered(t *testing.T, got []string, prefixes ...string) {
	t.Helper()
	at := -1
	for _, prefix := range prefixes {
		i := slices.IndexFunc(got, func(what string) bool { return strings.HasPrefix(what, prefix) })
		if i <= at {
			t.Errorf("%s is number %d, want it after number %d of\n%s", prefix, i, at, strings.Join(got, "\n"))
		}
		at = i
	}
}

// Nothing is turned on while the way there is not open: without the rules, and without the divert rule. Nothing is closed either:
// another proxy may still serve it.
func TestNothingIsOnWithoutRules(t *testing.T) {
	for _, refused := range []string{"ensure rules", "ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.set(1, pods(1))
			r.set(2, hereAndElsewhere(), atAddress("203.0.113.1"))
			r.set(3, nil)
			r.let(refusing(refused))
			r.start()
			r.queue.Synced()
			for _, what := range r.take() {
				for _, set := range []string{"REJECTED", "FRONTENDS", "INTERNAL", "CLOSED"} {
					if strings.HasPrefix(what, "ipset add KIPVS-"+set) {
						t.Errorf("although refused: %s: %s", refused, what)
					}
				}
			}
			if got := r.attempts(); len(got) == 0 || got[0] == nil || errors.Is(got[0], loop.ErrObjects) {
				t.Errorf("attempts %v, want one that concerns more than single objects", got)
			}
			r.let(nil)
			time.Sleep(retryMost)
			ordered(t, r.take(), "ipset add KIPVS-FRONTENDS 10.96.0.1,tcp:80 skbmark 0x4010/0x4010", "ipset add KIPVS-CLOSED 10.96.0.0/12")
		})
	}
}

// Routing rules cost every packet of the node something, whoever's it is: they are there as long as packets are diverted.
func TestPoliciesComeWithDivertedFrontends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		external := func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.18.0.1")} }
		ofRules := func(got []string) (out []string) {
			for _, what := range got {
				if strings.HasPrefix(what, "ip rule") {
					out = append(out, what)
				}
			}
			return out
		}
		r.start()
		r.queue.Synced()
		r.change(1, pods(1))
		if got := ofRules(r.take()); len(got) > 0 {
			t.Errorf("without external addresses: %v", got)
		}
		r.change(1, pods(1), external)
		r.change(2, pods(1), func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.18.0.2")} })
		got := r.take()
		ordered(t, got, "ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598", "ipset add KIPVS-EXTERNAL 198.18.0.1,tcp:80")
		if n := len(ofRules(got)); n != 5 {
			t.Errorf("%d rules for two external addresses:\n%s", n, strings.Join(got, "\n"))
		}
		r.change(1, pods(1))
		if got := ofRules(r.take()); len(got) > 0 {
			t.Errorf("one of two is still external: %v", got)
		}
		r.remove(2)
		got = r.take()
		ordered(t, got, "ipset del KIPVS-EXTERNAL 198.18.0.2,tcp:80", "ip rule del pref 92 fwmark 0x1000/0x1000 lookup 7598")
		if n := len(ofRules(got)); n != 5 {
			t.Errorf("%d rules are gone with the last:\n%s", n, strings.Join(got, "\n"))
		}
	})
}

// Where source ranges guard a frontend, its virtual server waits for the rules that look at them: it would serve the node at once.
func TestGuardedServersWaitForRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1), guarded("198.18.0.1"))
		r.let(refusing("ensure rules"))
		r.start()
		r.queue.Synced()
		made := func(got []string, server string) bool {
			return slices.ContainsFunc(got, func(what string) bool { return strings.HasPrefix(what, "ipvsadm -A -t "+server) })
		}
		if got := r.take(); made(got, "198.18.0.1:80") || !made(got, "10.96.0.1:80") {
			t.Errorf("without rules:\n%s", strings.Join(got, "\n"))
		}
		r.let(nil)
		time.Sleep(retryMost)
		ordered(t, r.take(), "ipvsadm -A -t 198.18.0.1:80", "ipvsadm -a -t 198.18.0.1:80", "ipset add KIPVS-FRONTENDS 198.18.0.1,tcp:80")
	})
}

// What all frontends wait for is asked for once: as long as it does not stand, a change costs nothing for those held back.
func TestHeldBackCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 100
		r := newRig(t)
		for n := range services {
			r.set(n, pods(1))
		}
		looked := 0
		r.tweak = func(l *Dataplane) {
			frontends := l.members[SetsOf(inet.IPv4).Frontends.Name]
			may := frontends.MayAdd
			frontends.MayAdd = func(m ipset.Member) bool { looked++; return may(m) }
		}
		r.let(refusing("ensure rules"))
		r.start()
		r.queue.Synced()
		r.take()
		r.change(7, pods(1, 2))
		if got := r.take(); !contains(got, "ipvsadm -a -t 10.96.0.7:80 -r 10.244.0.2:8080 -m -w 1") || looked > 0 {
			t.Errorf("a change cost %v, and %d looks at frontends that are held back", got, looked)
		}
		r.let(nil)
		time.Sleep(retryMost)
		if on := strings.Count(strings.Join(r.take(), "\n"), "ipset add KIPVS-FRONTENDS"); on != services || looked != services {
			t.Errorf("%d frontends are on, %d were looked at; want %d", on, looked, services)
		}
	})
}

// No external client is led to an endpoint elsewhere while a Local policy keeps its source: neither before they are dropped, nor after.
func TestLocalPolicyOrder(t *testing.T) {
	const frontend, elsewhere = "198.18.0.1,tcp:80", "-t 198.18.0.1:80 -r 10.244.0.2:8080 -m -w "
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		r.queue.Synced()
		r.change(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		time.Sleep(time.Second)
		r.take()
		r.change(1, pods(2), atAddress("198.18.0.1"))
		time.Sleep(time.Second)
		ordered(t, r.take(), "ipset add KIPVS-FRONTENDS "+frontend+" skbmark 0x10/0x4010", "ipvsadm -a "+elsewhere+"1")
		r.change(1, hereAndElsewhere(), atAddress("198.18.0.1"))
		time.Sleep(time.Second)
		ordered(t, r.take(), "ipvsadm -e "+elsewhere+"0", "ipset add KIPVS-FRONTENDS "+frontend+" skbmark 0x0/0x4010")
	})
}

// The same while the kernel refuses a change.
func TestLocalPolicyRefused(t *testing.T) {
	server := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("198.18.0.1:80"))
	elsewhere := netip.MustParseAddrPort("10.244.0.2:8080")
	leaks := func(r *rig) bool { // external clients to another node
		members, err := r.sets.Read(t.Context(), SetsOf(inet.IPv4).Frontends)
		if err != nil {
			t.Error(err)
		}
		return r.ipvs.Table()[server].Reals[elsewhere].Weight > 0 && members[MemberOf(server)] == MarksFor(14).Of(KeepSource)
	}
	for _, tt := range []struct {
		name, refused string
		before, after []plan.Endpoint
	}{
		{"the last endpoint here goes", "ipset add KIPVS-FRONTENDS 198.18.0.1,tcp:80 skbmark 0x10/0x4010", hereAndElsewhere(), pods(2)},
		{"the first endpoint here comes", "ipvsadm -e -t 198.18.0.1:80 -r 10.244.0.2:8080 -m -w 0", pods(2), hereAndElsewhere()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.start()
				r.queue.Synced()
				r.change(1, tt.before, atAddress("198.18.0.1"))
				time.Sleep(time.Second)
				r.let(func(what string) error {
					if strings.HasPrefix(what, tt.refused) {
						return errRefused
					}
					return nil
				})
				r.change(1, tt.after, atAddress("198.18.0.1"))
				time.Sleep(time.Minute)
				if leaks(r) {
					t.Errorf("clients are led to %v with their own source, while this is refused: %s", elsewhere, tt.refused)
				}
			})
		})
	}
}
