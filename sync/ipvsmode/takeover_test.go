package ipvsmode

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/plan"
)

// kubeProxys adds a virtual server and a set that names it, as kube-proxy's ipvs mode leaves them.
func kubeProxys(t *testing.T, r *rig, set, at string) {
	t.Helper()
	key := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort(at))
	s := ipset.Set{Name: set, Type: ipset.HashIPPort, Family: inet.IPv4}
	errs := []error{r.sets.Create(t.Context(), s)}
	errs = append(errs, r.sets.Do(t.Context(), []ipset.Op{{Verb: ipset.Add, Set: s, Member: MemberOf(key)}})...)
	errs = append(errs, r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}}})...)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// changes leaves out what changes nothing.
func changes(asked []string) []string {
	return slices.DeleteFunc(asked, func(what string) bool {
		verb, _, _ := strings.Cut(what, " ")
		return verb == "count" || verb == "walk" || verb == "read" || strings.HasPrefix(what, "ipset test")
	})
}

// Virtual servers that kube-proxy's sets name are taken over in place, and removed if no Service needs them; others are
// left alone, and so are those of excluded ranges.
func TestAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.adjust = func(c *Config) { c.Exclude = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }
		kubeProxys(t, r, "KUBE-LOAD-BALANCER", "203.0.113.1:80")
		kubeProxys(t, r, "KUBE-EXTERNAL-IP", "203.0.113.2:80")
		kubeProxys(t, r, "KUBE-EXTERNAL-IP", "198.51.100.1:80")
		kubeProxys(t, r, "SOMEBODYS", "203.0.113.3:80")
		kubeProxys(t, r, "KUBE-LOOP-BACK", "203.0.113.4:80")
		r.sets.SetInUse("KUBE-LOOP-BACK", true)
		r.set(1, pods(1), func(s *plan.Service) { s.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")} })
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		for _, op := range r.take() {
			if strings.HasPrefix(op, "ipvsadm -D -t 203.0.113.1") || strings.HasPrefix(op, "ipvsadm -A -t 203.0.113.1") {
				t.Errorf("not in place: %s", op)
			}
		}
		table, err := r.ipvs.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[string]bool{"203.0.113.1:80": true, "203.0.113.2:80": false, "198.51.100.1:80": true, "203.0.113.3:80": true} {
			if _, is := table[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort(at))]; is != want {
				t.Errorf("%s is there: %v", at, is)
			}
		}
		names, _ := r.sets.Names(t.Context())
		if r.pending() != 0 {
			t.Errorf("%v objects are pending", r.pending())
		}
		if !slices.Contains(names, "KUBE-LOOP-BACK") { // whose rule stays with a chain that others need
			t.Error("a set that is in use is gone")
		}
		if slices.Contains(names, "KUBE-LOAD-BALANCER") || slices.Contains(names, "KUBE-EXTERNAL-IP") || !slices.Contains(names, "SOMEBODYS") {
			t.Errorf("sets %v", names)
		}
	})
}

// Kube-proxy's rules go step by step, after all is served. When they come back they are left alone, and the node has a problem.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var problems []plan.Problem
		r.adjust = func(c *Config) { c.NodeProblems = func(p []plan.Problem) { problems = p } }
		r.lookInterval = 500 * time.Millisecond
		r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
		r.set(1, pods(1), func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")} })
		r.let(refusing("ipset add KIPVS-EXTERNAL 203.0.113.1,tcp:80"))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		if left, _ := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 2 || r.pending() < 2 {
			t.Errorf("%v are left of two, %v are pending, although a frontend is not served", left, r.pending())
		}
		r.take()
		r.let(nil)
		time.Sleep(time.Minute)
		ordered(t, changes(r.take()), "ipset add KIPVS-EXTERNAL 203.0.113.1,tcp:80", "ipset add KIPVS-FRONTENDS 203.0.113.1,tcp:80")
		if left, _ := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 0 || r.pending() != 0 || problems != nil {
			t.Errorf("%v are left, problems %v", left, problems)
		}
		r.rules.SetKubeProxy(inet.IPv4, "jumps")
		time.Sleep(time.Minute)
		if left, _ := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 1 || len(problems) != 1 || problems[0].Field != "kube-proxy" {
			t.Errorf("%v are left of one that came back; problems %v", left, problems)
		}
	})
}

// Addresses that kube-proxy left on the link go after their frontends are on. An external one becomes a route as long as a socket
// has it as source; a cluster IP has the route of its range.
func TestUnbinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		external := netip.MustParseAddr("203.0.113.1")
		var unused atomic.Bool
		r.adjust = func(c *Config) {
			c.InUse = func(context.Context) (map[netip.Addr]struct{}, error) {
				if unused.Load() {
					return nil, nil
				}
				return map[netip.Addr]struct{}{external: {}}, nil
			}
		}
		var left []steering.Op
		for _, i := range []steering.Item{
			{Kind: steering.Link}, {Kind: steering.Address, Prefix: netip.PrefixFrom(external, 32)}, {Kind: steering.Address, Prefix: netip.MustParsePrefix("10.96.0.1/32")},
		} {
			left = append(left, steering.Op{Item: i})
		}
		if err := errors.Join(r.steering.Do(t.Context(), left)...); err != nil {
			t.Fatal(err)
		}
		r.set(1, pods(1), func(s *plan.Service) { s.ExternalIPs = []netip.Addr{external} })
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		ordered(t, changes(r.take()), "ip route add local 203.0.113.1/32 dev kube-ipvs0 table local src 192.168.0.1",
			"ipset add KIPVS-FRONTENDS 203.0.113.1,tcp:80", "ipset add KIPVS-EXTERNAL 203.0.113.1,tcp:80", "ip address del 203.0.113.1/32 dev kube-ipvs0")
		items, _ := r.steering.Read(t.Context())
		if _, is := items[heldRoute(external)]; !is {
			t.Error("the route in the place of the address is gone, although a socket has it")
		}
		unused.Store(true)
		time.Sleep(time.Minute)
		items, _ = r.steering.Read(t.Context())
		for i := range items {
			if i.Kind == steering.Address || i == heldRoute(external) {
				t.Errorf("%v is left", i)
			}
		}
	})
}

func TestKubeProxySets(t *testing.T) {
	for name, want := range map[string]bool{
		"KUBE-CLUSTER-IP": true, "KUBE-6-NODE-PORT-TCP": true, "KUBE-6-LOAD-BALANCER-SOURCE-CID": true, "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS": true,
		"KUBE-ROUTER-SVIP": false, "KIPVS-OWNED": false, "KUBE-": false,
	} {
		if got := isKubeProxySet(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A dry kernel notes the removal of kube-proxy's rules, once, and removes none.
func TestDryTakeover(t *testing.T) {
	r := newRig(t)
	r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
	var noted []string
	dry := Dry(r.config().Kernel, func(line string) { noted = append(noted, line) })
	for range 2 {
		steps, err := dry.Rules.KubeProxy(t.Context(), inet.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if err := step.Do(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	left, _ := r.rules.KubeProxy(t.Context(), inet.IPv4)
	if got := strings.Join(noted, ", "); got != "# remove jumps, # remove chains" || len(left) != 2 {
		t.Errorf("noted %s; %d steps are left of two", got, len(left))
	}
}

// An endpoint that the kernel refuses, as it does broadcast addresses of the node's networks, does not hold a take-over up: its Service is
// served by the others, and all other Services' packets still go where kube-proxy's rules last led them.
func TestRefusedEndpointBesideKubeProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = 500 * time.Millisecond
		r.rules.SetKubeProxy(inet.IPv4, "table kube-proxy of nftables (IPv4)")
		r.set(1, pods(1, 255))
		r.set(2, pods(2))
		r.let(func(what string) error {
			if strings.HasPrefix(what, "ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.255:8080") {
				return errRefused
			}
			return nil
		})
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour)
		if left, err := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 0 || err != nil {
			t.Errorf("after an hour %v are left, %v", left, err)
		}
	})
}

// picky rules cannot remove what is gone, as iptables-restore ("-D ...: Bad rule") and nft (DELTABLE: ENOENT) cannot.
type picky struct {
	iptables.Kernel
	fake *iptables.Fake
}

func (p picky) KubeProxy(ctx context.Context, f inet.Family) ([]iptables.Removal, error) {
	steps, err := p.Kernel.KubeProxy(ctx, f)
	var out []iptables.Removal
	for _, s := range steps {
		out = append(out, iptables.Step(s.Name, func(ctx context.Context) error {
			if !p.fake.SawKubeProxy(f) {
				return errors.New("no such rule")
			}
			return s.Do(ctx)
		}))
	}
	return out, err
}

// While a take-over waits, somebody removes kube-proxy's rules (kube-proxy --cleanup). It ends all the same.
func TestTakeoverOfRemovedRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = 500 * time.Millisecond
		r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
		r.adjust = func(c *Config) { c.Rules = picky{c.Rules, r.rules} }
		r.set(1, pods(1), func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")} })
		r.let(refusing("ipset add KIPVS-EXTERNAL 203.0.113.1,tcp:80"))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		r.rules.SetKubeProxy(inet.IPv4) // kube-proxy --cleanup
		time.Sleep(time.Minute)
		r.let(nil)
		time.Sleep(time.Hour)
		a := r.attempts()
		if last := a[len(a)-1]; last != nil || r.pending() != 0 {
			t.Errorf("after an hour: %v; %v pending", last, r.pending())
		}
	})
}

// A process that found nothing of kube-proxy's at its start leaves alone what a kube-proxy writes later.
func TestKubeProxyStartsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var problems []plan.Problem
		r.adjust = func(c *Config) { c.NodeProblems = func(p []plan.Problem) { problems = p } }
		r.lookInterval = 500 * time.Millisecond
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		r.rules.SetKubeProxy(inet.IPv4, "jumps", "chains")
		time.Sleep(time.Minute)
		if left, _ := r.rules.KubeProxy(t.Context(), inet.IPv4); len(left) != 2 || len(problems) != 1 {
			t.Errorf("%v are left of the two of a kube-proxy that runs; problems %v", left, problems)
		}
	})
}
