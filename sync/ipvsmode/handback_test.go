package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
)

// handBackRig is a node that kube-ipvs served: a cluster IP, and an external address with an alias.
func handBackRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.set(1, pods(1))
	r.set(2, hereAndElsewhere(), atAddress("203.0.113.1"))
	stop := r.start()
	r.queue.Synced()
	r.take()
	stop()
	return r
}

// setConnections sets the numbers of a real server's connections.
func (r *rig) setConnections(key ipvs.Key, at netip.AddrPort, active, inactive uint32) {
	if err := r.ipvs.SetConnections(ipvs.RealKeyOf(key, at), active, inactive); err != nil {
		r.t.Error(err)
	}
}

// left describes the objects that are left.
func left(t *testing.T, r *rig) string {
	t.Helper()
	table, err := r.ipvs.Read(t.Context())
	items, err2 := r.steering.Read(t.Context())
	names, err3 := r.sets.Names(t.Context())
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for i := range items {
		if i.Kind == steering.Link || i.Kind == steering.Address {
			kinds = append(kinds, "link or address")
		} else {
			kinds = append(kinds, i.Prefix.String())
		}
	}
	slices.Sort(kinds)
	return fmt.Sprintf("%d servers, %d sets, on the link %v", len(table), len(names), kinds)
}

// A hand-back leaves kube-proxy's ipvs mode its virtual servers and the link, and the other modes nothing. A kill before any of
// its operations changes nothing of that, once it is repeated.
func TestHandBack(t *testing.T) {
	for _, keep := range []bool{true, false} {
		want := map[bool]string{true: "3 servers, 0 sets, on the link [link or address]", false: "0 servers, 0 sets, on the link []"}[keep]
		for killed := 0; ; killed++ {
			r, asked := (*rig)(nil), 0
			synctest.Test(t, func(t *testing.T) {
				r = handBackRig(t)
				r.let(func(string) error {
					if asked++; asked > killed {
						return errRefused
					}
					return nil
				})
				h := HandBack{Kernel: r.config().Kernel, Rules: RulesConfig{Marks: MarksFor(14)}, Keep: keep}
				first := h.Do(t.Context())
				r.let(nil)
				if err := h.Do(t.Context()); err != nil {
					t.Errorf("killed at %d: %v", killed, err)
				}
				if got := left(t, r); got != want {
					t.Errorf("killed at %d (%v): %s, want %s", killed, first, got, want)
				}
			})
			if asked <= killed || t.Failed() {
				break
			}
		}
	}
}

// A killable kernel of sets destroys so many, and no more.
type killable struct {
	ipset.Kernel
	left int
}

func (k *killable) Destroy(ctx context.Context, name string) error {
	if k.left--; k.left < 0 {
		return errRefused
	}
	return k.Kernel.Destroy(ctx, name)
}

// Strict rules need their sets, as iptables-restore does.
type strictRules struct {
	iptables.Kernel
	sets ipset.Kernel
}

func (s strictRules) Ensure(ctx context.Context, r iptables.Ruleset) error {
	for _, set := range SetsOf(r.Family).All() {
		if _, err := s.sets.Read(ctx, set); err != nil && strings.Contains(r.String(), set.Name+" ") {
			return fmt.Errorf("iptables-restore: %w", err)
		}
	}
	return s.Kernel.Ensure(ctx, r)
}

// A hand-back that was killed among the sets can be repeated, though rules refer to these.
func TestHandBackKilledAmongSets(t *testing.T) {
	for killed := range 2 * len(SetsOf(inet.IPv4).All()) {
		synctest.Test(t, func(t *testing.T) {
			r := handBackRig(t)
			k := r.config().Kernel
			plain := k.Sets
			k.Rules, k.Sets = strictRules{k.Rules, plain}, &killable{plain, killed}
			h := HandBack{Kernel: k, Rules: RulesConfig{Marks: MarksFor(14)}}
			first := h.Do(t.Context())
			h.Kernel.Sets = plain
			if err := h.Do(t.Context()); err != nil {
				t.Errorf("killed after %d sets (%v): %v", killed, first, err)
			}
			if got, want := left(t, r), "0 servers, 0 sets, on the link []"; got != want {
				t.Errorf("killed after %d sets: %s, want %s", killed, got, want)
			}
		})
	}
}

// Where kube-proxy does not keep the connections of IPVS, they are waited for, at most for the limit; the rules leave new ones alone.
func TestHandBackWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := handBackRig(t)
		key := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))
		at := netip.MustParseAddrPort("10.244.0.1:8080")
		r.setConnections(key, at, 2, 0)
		var told []int
		h := HandBack{Kernel: r.config().Kernel, Rules: RulesConfig{Marks: MarksFor(14)}, Limit: time.Minute, Waits: func(n int) { told = append(told, n) }}
		begin := time.Now()
		time.AfterFunc(9500*time.Millisecond, func() {
			for k, e := range r.ipvs.Table() {
				for at, real := range e.Reals {
					if real.Weight != 0 {
						t.Errorf("%v -> %v may get new connections", k, at)
					}
				}
			}
			r.setConnections(key, at, 0, 5)
		})
		if err := h.Do(t.Context()); err != nil || time.Since(begin).Round(time.Second) != 10*time.Second || fmt.Sprint(told) != "[2 0]" {
			t.Errorf("%v after %v, told %v", err, time.Since(begin), told)
		}
	})
	rules := Rules(RulesConfig{Marks: MarksFor(14), HandedBack: true}, inet.IPv4).String()
	for _, gone := range []string{"-A KIPVS-PREROUTING -m set --match-set KIPVS-FRONTENDS", "-A KIPVS-OWN -m set ! --match-set KIPVS-FRONTENDS", "-j NETMAP", "-A KIPVS-PREROUTING -m set --match-set KIPVS-CLOSED"} {
		if strings.Contains(rules, gone) {
			t.Errorf("%q is in the rules", gone)
		}
	}
	if !strings.Contains(rules, "-A KIPVS-PREROUTING -m set --match-set KIPVS-EXTERNAL dst,dst -j MARK") {
		t.Error("packets of established connections are not diverted")
	}
	for _, chain := range []string{"KIPVS-PREROUTING", "KIPVS-OWN"} {
		if !strings.Contains(rules, "-A "+chain+" -m set --match-set KIPVS-RANGED dst,dst -m set ! --match-set KIPVS-ALLOWED dst,dst,src -j DROP") {
			t.Errorf("%s lets pass what source ranges deny", chain)
		}
	}
}

// The rules of a hand-back have the marks of the routing rules that are there, whatever masquerade bit the command line says.
func TestHandBackKeepsMarks(t *testing.T) {
	for _, bits := range [][2]int{{0, 14}, {4, 14}, {12, 14}, {14, 14}, {20, 14}, {28, 14}, {31, 14}, {14, 12}, {14, 28}, {30, 12}} {
		ran, said := MarksFor(bits[0]), MarksFor(bits[1])
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.adjust = func(c *Config) { c.Marks = ran }
			r.set(1, pods(1), externalIP("198.18.0.9"))
			stop := r.start()
			r.queue.Synced()
			r.take()
			stop()
			k := r.config().Kernel
			written := &writtenRules{Kernel: k.Rules}
			k.Rules = written
			h := HandBack{Kernel: k, Rules: RulesConfig{Marks: said}, Limit: time.Minute}
			if err := h.Do(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("KIPVS-EXTERNAL dst,dst -j MARK --set-xmark %#x/%#x", ran.Divert, ran.Divert); !strings.Contains(written.text, want) {
				t.Errorf("bits %d: the rules lack %q", bits, want)
			}
			for _, other := range []uint32{ran.Divert, ran.Own} {
				if masquerades := fmt.Sprintf("--mark %#x/%#x -j KIPVS-MASQUERADE", other, other); strings.Contains(written.text, masquerades) {
					t.Errorf("bits %d: %q is in the rules", bits, masquerades)
				}
			}
		})
	}
}

// WrittenRules keep the text of what is written.
type writtenRules struct {
	iptables.Kernel
	text string
}

func (w *writtenRules) Ensure(ctx context.Context, r iptables.Ruleset) error {
	w.text += r.String()
	return w.Kernel.Ensure(ctx, r)
}

// At the limit, flows of UDP that go on are forgotten, where IPVS has some, so that kube-proxy's rules take their next packets.
func TestHandBackForgetsFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := handBackRig(t)
		for n := range 2 {
			name := r.set(3+n, pods(1), udp)
			r.slices[name][0].Ports[0].Proto = inet.UDP
		}
		stop := r.start()
		r.queue.Synced()
		r.take()
		stop()
		at := netip.MustParseAddrPort("10.244.0.1:8080")
		r.setConnections(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80")), at, 1, 0)
		r.setConnections(ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort("10.96.0.3:80")), at, 0, 1)
		kernel, flows := r.config().Kernel, new(conntrack.Fake)
		kernel.Flows = flows
		h := HandBack{Kernel: kernel, Rules: RulesConfig{Marks: MarksFor(14)}, Limit: time.Minute}
		if err := h.Do(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(flows.Calls()), "[[conntrack -L -p udp --orig-dst 10.96.0.3 --orig-port-dst 80]]"; got != want {
			t.Errorf("forgotten: %s, want %s", got, want)
		}
	})
}

// A hand-back is not due before kube-proxy has rules wherever kube-ipvs has virtual servers, and in ipvs mode sets.
func TestServes(t *testing.T) {
	r := newRig(t)
	owned := SetsOf(inet.IPv6).Owned
	member := ipset.Op{Verb: ipset.Add, Set: owned, Member: MemberOf(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("[fd00::1]:80")))}
	if err := r.sets.Create(t.Context(), owned); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.sets.Do(t.Context(), []ipset.Op{member})...); err != nil {
		t.Fatal(err)
	}
	h := HandBack{Kernel: r.config().Kernel}
	r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
	for _, some := range [][]string{nil, {"jumps"}} {
		r.rules.SetKubeProxy(inet.IPv6, some...)
		if serves, err := h.Serves(t.Context()); serves || err != nil {
			t.Errorf("serves with %v of IPv6: %v, %v", some, serves, err)
		}
	}
	r.rules.SetKubeProxy(inet.IPv6, "jumps", "chains")
	if serves, err := h.Serves(t.Context()); !serves || err != nil {
		t.Errorf("does not serve: %v, %v", serves, err)
	}
	h.Keep = true
	if serves, err := h.Serves(t.Context()); serves || err != nil {
		t.Errorf("serves in ipvs mode without a set of IPv6: %v, %v", serves, err)
	}
	its := ipset.Set{Name: "KUBE-6-CLUSTER-IP", Type: ipset.HashIPPort, Family: inet.IPv6}
	err := r.sets.Create(t.Context(), its)
	member.Set = its
	if err := errors.Join(err, errors.Join(r.sets.Do(t.Context(), []ipset.Op{member})...)); err != nil {
		t.Fatal(err)
	}
	if serves, err := h.Serves(t.Context()); !serves || err != nil {
		t.Errorf("does not serve in ipvs mode: %v, %v", serves, err)
	}
}

// Before kube-proxy's ipvs mode begins, nothing leads to aliases any more, and all else is as it was. For other modes nothing changes.
func TestPrepareHandBack(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := handBackRig(t)
			internal := SetsOf(inet.IPv4).Internal
			before := left(t, r)
			if len(r.membersOf(internal)) != 1 {
				t.Fatalf("%v, want one frontend with an alias", r.membersOf(internal))
			}
			h := HandBack{Kernel: r.config().Kernel, Keep: keep}
			for range 2 { // it may be repeated
				if err := h.Prepare(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(r.membersOf(internal)); (n == 0) != keep || left(t, r) != before {
				t.Errorf("keep %t: %d frontends have an alias; %s, want %s", keep, n, left(t, r), before)
			}
		})
	}
}

// noted notes the rules that were written last.
type noted struct {
	iptables.Kernel
	last *string
}

func (n noted) Ensure(ctx context.Context, r iptables.Ruleset) error {
	if r.Family == inet.IPv4 {
		*n.last = r.String()
	}
	return n.Kernel.Ensure(ctx, r)
}

// While a hand-back only waits for old connections, what kube-ipvs last knew of source ranges must not drop kube-proxy's new ones.
func TestHandBackLiftsRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := handBackRig(t)
		r.setConnections(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80")), netip.MustParseAddrPort("10.244.0.1:8080"), 1, 0)
		k, last := r.config().Kernel, ""
		k.Rules = noted{k.Rules, &last}
		h := HandBack{Kernel: k, Rules: RulesConfig{Marks: MarksFor(14)}, Limit: 10 * time.Minute}
		time.AfterFunc(9*time.Minute, func() {
			if strings.Contains(last, "KIPVS-RANGED dst,dst -m set ! --match-set KIPVS-ALLOWED dst,dst,src -j DROP") {
				t.Error("after nine minutes, new connections of kube-proxy's are dropped by sets that nobody updates")
			}
		})
		if err := h.Do(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
