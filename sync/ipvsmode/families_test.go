package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A noIP6Tables is a kernel without the tables of ip6tables.
type noIP6Tables struct {
	iptables.Kernel
	mended *atomic.Bool
}

func (k noIP6Tables) Ensure(ctx context.Context, r iptables.Ruleset) error {
	if r.Family == inet.IPv6 && !k.mended.Load() {
		return errors.New("no table nat")
	}
	return k.Kernel.Ensure(ctx, r)
}

// dual gives a Service cluster IPs of both families.
func dual(n byte) func(*plan.Service) {
	return func(s *plan.Service) {
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", n))}
	}
}

// A log keeps the lines that a loop logs.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.all
	l.all = nil
	return out
}

func (l *lines) on(r *rig) {
	r.log = funcr.New(func(_, line string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, line)
	}, funcr.Options{})
}

// good reports whether the last of the attempts is one that the node is healthy after.
func good(attempts []error) bool {
	last := attempts[len(attempts)-1]
	return last == nil || errors.Is(last, loop.ErrObjects)
}

// On a node without IPv6 a Service of both families is served over IPv4, and nothing is asked of IPv6: its settings do not exist.
func TestNoIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.adjust = func(c *Config) {
			c.Sysctl = &sysctl.Files{Root: t.TempDir()}
			c.Forwarding = map[inet.Family][]sysctl.Setting{inet.IPv6: {{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}}
		}
		r.set(1, pods(1), dual(1))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour)
		if attempts := r.attempts(); len(attempts) > 5 || attempts[len(attempts)-1] != nil {
			t.Errorf("%d attempts; the last one: %v", len(attempts), attempts[len(attempts)-1])
		}
		if n := len(r.ipvs.Table()); n != 1 {
			t.Errorf("%d virtual servers", n)
		}
	})
}

// What an operator sees of a Service of both families on a node without IPv6 agrees: its IPv6 address is not served, and not waited for, and
// nobody is told.
func TestNoIPv6IsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		name := r.set(1, pods(1), dual(1))
		r.start()
		r.queue.Synced()
		synctest.Wait()
		in, err := r.loop.Inspect(t.Context(), name)
		if err != nil || len(in.Frontends) != 2 || len(in.Problems) > 0 {
			t.Fatalf("%+v, %v", in, err)
		}
		for _, fe := range in.Frontends {
			verdicts, err := r.loop.Explain(t.Context(), fe.Address, aClient)
			if err != nil {
				t.Fatal(err)
			}
			isServed := verdicts[0].Outcome != loop.NotServed
			if isServed != fe.Addr.Is4() || isServed != (fe.Status == loop.Status{}) || fe.Status.Lacks != "" && fe.Status.Lacks != "this node does not have IPv6" {
				t.Errorf("%v: status %+v, and %v", fe.Address, fe.Status, verdicts[0])
			}
		}
		if s, err := r.loop.Summary(t.Context(), 0); err != nil || s.Frontends != 1 || s.Programmed != 1 || s.Unserved != 0 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// Half an IPv6 is given up with one line in the log where no Service needs it, and IPv4 goes on as if nothing were; a Service
// that needs it says so, and the node is unhealthy as long as there is one; when it works it is taken up.
func TestHalfIPv6(t *testing.T) {
	disabled := func(what string) error {
		if strings.Contains(what, "ip route add 400::1/128 dev") || strings.Contains(what, "ip route add local 100::/8 dev") {
			return steering.ErrNoIPv6
		}
		return nil
	}
	for _, tt := range []struct {
		name   string
		refuse func(string) error
		mended bool // ip6tables work
	}{{"no ip6tables", nil, false}, {"disabled for new links", disabled, true}, {"neither", disabled, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.families, r.refuse = []inet.Family{inet.IPv4, inet.IPv6}, tt.refuse
				var mended atomic.Bool
				mended.Store(tt.mended)
				r.tweak = func(l *Dataplane) {
					for _, rules := range l.rules {
						rules.kernel = noIP6Tables{rules.kernel, &mended}
					}
				}
				var log lines
				log.on(r)
				var serves []string
				r.adjust = func(c *Config) { c.Serves = func(f []inet.Family) { serves = append(serves, fmt.Sprint(f)) } }
				r.set(1, pods(1, 2))
				r.start()
				r.queue.Synced()
				time.Sleep(time.Hour)
				attempts := r.attempts()
				if i := slices.IndexFunc(attempts, func(err error) bool { return err != nil }); i >= 0 || len(attempts) < 50 {
					t.Errorf("%d attempts without IPv6, one of them bad: %v", len(attempts), attempts[max(i, 0)])
				}
				if said := log.take(); len(said) != 1 || !strings.Contains(said[0], "left alone") {
					t.Errorf("the log says %q", said)
				}
				if n := r.pending(); n != 0 {
					t.Errorf("%v objects are pending", n)
				}
				if table, _ := r.ipvs.Read(t.Context()); len(table) != 1 {
					t.Errorf("%d virtual servers of IPv4", len(table))
				}

				// A Service needs it.
				r.change(2, pods(3), dual(2))
				time.Sleep(5 * time.Second)
				if good(r.attempts()) || len(r.reported()) != 0 {
					t.Errorf("a moment after a Service needs IPv6: good, or reported: %q", r.reported())
				}
				time.Sleep(time.Minute)
				if got := r.reported(); good(r.attempts()) || len(got) != 1 || !strings.Contains(got[0], "spec.ipFamilies: IPv6 does not work on this node") {
					t.Errorf("after a minute good, or reported: %q", got)
				}
				r.remove(2)
				time.Sleep(time.Minute)
				if got := r.reported(); !good(r.attempts()) || len(got) != 1 || got[0] != "default/s00002 []" {
					t.Errorf("when no Service needs IPv6 any more it is not good, or reported: %q", got)
				}
				log.take()

				// It works.
				mended.Store(true)
				r.let(nil)
				time.Sleep(time.Minute + time.Second)
				if said := log.take(); len(said) != 1 || !strings.Contains(said[0], "taken up") {
					t.Errorf("when it works the log says %q", said)
				}
				want := []string{"[IPv4]", "[IPv4 IPv6]", "[IPv4]", "[IPv4 IPv6]"}
				if diff := cmp.Diff(want, serves); diff != "" {
					t.Errorf("served families (-want +got):\n%s", diff)
				}
				r.attempts()
				r.change(2, pods(3), dual(2))
				time.Sleep(time.Minute)
				_, err := r.ipvs.ReadServer(t.Context(), ipvs.Key{Addr: netip.MustParseAddr("fd00::2"), Proto: inet.TCP, Port: 80})
				if err != nil || !good(r.attempts()) || len(r.reported()) != 0 {
					t.Errorf("when IPv6 works: %v, %q", err, r.reported())
				}
			})
		})
	}
}

// The Services of a family that does not work are told, and told that it works again.
func TestServicesHearOfTheirFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []inet.Family{inet.IPv4, inet.IPv6}
		var mended atomic.Bool
		r.tweak = func(l *Dataplane) {
			for _, rules := range l.rules {
				rules.kernel = noIP6Tables{rules.kernel, &mended}
			}
		}
		r.set(1, pods(1))
		r.set(2, pods(2), dual(2))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.reported(); len(got) != 1 || !strings.HasPrefix(got[0], "default/s00002") {
			t.Errorf("reported: %q", got)
		}
		mended.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.reported(); len(got) != 1 || got[0] != "default/s00002 []" || !good(r.attempts()) {
			t.Errorf("when it works: %q", got)
		}
	})
}

// pending is how many objects are not as wanted.
func (r *rig) pending() (n float64) {
	for _, m := range r.series("kube_ipvs_layer_objects") {
		if m.GetLabel()[1].GetValue() == "pending" {
			n += m.GetGauge().GetValue()
		}
	}
	return n
}

// Without any family that works nothing is given up.
func TestLastFamilyIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []inet.Family{inet.IPv4, inet.IPv6}
		r.let(refusing("ensure rules"))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		if good(r.attempts()) {
			t.Error("the node is healthy without any rules")
		}
	})
}

// IPv6 is switched on for the link where the node has addresses of it, also when they come later, or the link is made anew.
func TestIPv6IsAdmittedToTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.families = []inet.Family{inet.IPv4, inet.IPv6}
		settings := &linkSettings{Fake: sysctl.NewFake(sysctl.Setting{Name: linkIPv6, Value: "1"}), steering: r.steering}
		r.adjust = func(c *Config) { c.Sysctl = settings }
		r.refuse = func(what string) error {
			if v, _ := settings.Read(context.Background(), []string{linkIPv6}); v[linkIPv6] != "0" && strings.Contains(what, "ip route add local 100::/8 dev kube-ipvs0") {
				return steering.ErrNoIPv6
			}
			return nil
		}
		var log lines
		log.on(r)
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Second)
		if said := log.take(); len(said) != 1 || settings.Ops() != 0 {
			t.Errorf("without an address of the node's the log says %q, after %d settings", said, settings.Ops())
		}
		r.mu.Lock()
		r.node.Own = append(r.node.Own, netip.MustParseAddr("2001:db8::1"))
		r.mu.Unlock()
		r.queue.Note(loop.Addresses)
		if said := log.take(); len(said) != 1 || !strings.Contains(said[0], "taken up") || settings.Ops() != 1 {
			t.Errorf("with an address the log says %q, after %d settings", said, settings.Ops())
		}
		r.attempts()
		// Somebody removes the link; the new one has IPv6 switched off again.
		if errs := r.steering.Do(t.Context(), []steering.Op{{Verb: steering.Del, Item: steering.Item{Kind: steering.Link}}}); errs != nil {
			t.Fatal(errs)
		}
		settings.Do(t.Context(), []sysctl.Setting{{Name: linkIPv6, Value: "1"}})
		log.take()
		r.queue.Note(loop.Routes)
		synctest.Wait()
		if got := r.attempts(); settings.Ops() != 3 || slices.ContainsFunc(got, func(err error) bool { return err != nil }) {
			t.Errorf("with a new link: %v, %d settings", got, settings.Ops())
		}
		// The node's address goes and comes.
		for _, own := range [][]netip.Addr{{netip.MustParseAddr("192.168.0.1")}, {netip.MustParseAddr("2001:db8::2")}} {
			r.mu.Lock()
			r.node.Own = own
			r.mu.Unlock()
			r.queue.Note(loop.Addresses)
			synctest.Wait()
			if got := r.attempts(); len(got) != 1 || got[0] != nil || settings.Ops() != 3 {
				t.Errorf("with the addresses %v: %v, %d settings", own, got, settings.Ops())
			}
		}
	})
}

// linkSettings are settings that exist as long as the link does.
type linkSettings struct {
	*sysctl.Fake
	steering *steering.Fake
}

func (s *linkSettings) Read(ctx context.Context, names []string) (map[string]string, error) {
	if items, err := s.steering.Read(ctx); err != nil {
		return nil, err
	} else if _, there := items[steering.Item{Kind: steering.Link}]; !there {
		return s.Fake.Read(ctx, nil)
	}
	return s.Fake.Read(ctx, names)
}
