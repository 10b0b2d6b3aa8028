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
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// dry runs one sync of a loop that writes nothing, and returns the operations that it notes.
func (r *rig) dry(adjust func(*Config)) (notes []string) {
	r.t.Helper()
	r.take()
	r.queue = loop.NewQueue()
	r.queue.Serial = true
	ctx, end := context.WithCancel(r.t.Context())
	cfg := r.config()
	if adjust != nil {
		adjust(&cfg)
	}
	cfg.Kernel = Dry(cfg.Kernel, func(op string) { notes = append(notes, op) })
	cfg.Converged = func(err error) {
		if err != nil && !errors.Is(err, errForeign) {
			r.t.Errorf("the dry run ends with %v", err)
		}
		end()
	}
	r.queue.Synced()
	if err := New(cfg).Run(ctx); err != nil {
		r.t.Error(err)
	}
	for _, op := range r.take() {
		if isWrite(op) {
			r.t.Errorf("the dry run writes: %s", op)
		}
	}
	return notes
}

// isWrite reports whether something that a rig was asked for changes anything.
func isWrite(asked string) bool {
	first, _, _ := strings.Cut(asked, " ")
	return !slices.Contains([]string{"read", "count", "walk"}, first) && !strings.HasPrefix(asked, "ipset test")
}

// asAsked returns a note in the words of a rig.
func asAsked(note string) string {
	switch {
	case strings.HasPrefix(note, "iptables-restore "), strings.HasPrefix(note, "ip6tables-restore "):
		return "ensure rules"
	case strings.HasPrefix(note, "ipset create "):
		return "create " + strings.Fields(note)[2]
	}
	note, _, _ = strings.Cut(note, "\n")
	for _, more := range []string{" -exist", " proto 175", " protocol 175"} {
		note = strings.TrimSuffix(note, more)
	}
	return note
}

// A dry run notes all that a loop then does, in its order, and nothing on a node that is as desired.
func TestDryRunIsWhatALoopDoes(t *testing.T) {
	local := func(svc *plan.Service) {
		svc.ExternalIPs, svc.ExternalLocal = []netip.Addr{netip.MustParseAddr("203.0.113.7")}, true
	}
	first := func(r *rig) ipvs.Key {
		return ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.1:80"))
	}
	for _, tt := range []struct {
		name  string
		after func(*rig) // what happens after a first life; nil: there was none
		few   string     // all that is to be done; empty: more than that
	}{
		{name: "a new node"},
		{"nothing", func(*rig) {}, "nothing"},
		{"a Service is gone", func(r *rig) { delete(r.services, plan.Name{Namespace: "default", Name: "s00002"}) }, ""},
		{"an endpoint more", func(r *rig) { r.set(1, pods(1, 2)) }, "ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1"},
		{"an endpoint with connections is gone", func(r *rig) { r.connect(1, 1, 3); r.set(1, pods(2)) },
			"ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1\nipvsadm -e -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 0"},
		{"the table is flushed", func(r *rig) { r.ipvs.Do(t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: first(r)}}) },
			"ipvsadm -A -t 10.96.0.1:80 -s rr\nipvsadm -a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1"},
		{"the link is gone", func(r *rig) {
			r.steering.Do(t.Context(), []steering.Op{{Verb: steering.Del, Item: steering.Item{Kind: steering.Link}}})
		}, ""},
		{"the rules are flushed", func(r *rig) { r.rules.Change(inet.IPv4) }, "ensure rules"},
		{"a set is gone", func(r *rig) { r.sets.Destroy(t.Context(), SetsOf(inet.IPv4).Frontends.Name) }, ""},
		{"a set has another definition", func(r *rig) {
			s := SetsOf(inet.IPv4).Hairpins
			r.sets.Destroy(t.Context(), s.Name)
			s.Type = ipset.HashIP
			if err := r.sets.Create(t.Context(), s); err != nil {
				t.Error(err)
			}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, settings := newRig(t), sysctl.NewFake(sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "0"})
				adjust := func(c *Config) {
					c.Sysctl, c.Settings = settings, []sysctl.Setting{{Name: "net/ipv4/vs/conntrack", Value: "1"}}
				}
				r.adjust = func(c *Config) { adjust(c); r.queue.Serial = true }
				r.set(1, pods(1))
				r.set(2, pods(1, 3), local)
				live := func() {
					stop := r.start()
					r.queue.Synced()
					time.Sleep(time.Second)
					stop()
				}
				if tt.after != nil {
					live()
					r.take()
					tt.after(r)
				}
				before := r.ipvs.Table().String() + r.sets.String() + r.steering.String() + settings.String()
				var notes, did []string
				for _, op := range r.dry(adjust) {
					if !strings.HasPrefix(op, "sysctl ") && !strings.HasPrefix(op, "ipset destroy ") { // a rig does not hear of these
						notes = append(notes, asAsked(op))
					}
				}
				if diff := cmp.Diff(before, r.ipvs.Table().String()+r.sets.String()+r.steering.String()+settings.String()); diff != "" {
					t.Errorf("the dry run changed the kernel (-before +after):\n%s", diff)
				}
				live()
				for _, op := range r.take() {
					if isWrite(op) && (op != "ensure rules" || slices.Contains(notes, op)) { // a start always restores them
						did = append(did, op)
					}
				}
				did = slices.Compact(did) // a set of another definition is refused first
				if diff := cmp.Diff(did, notes); diff != "" {
					t.Errorf("(-the loop +the dry run):\n%s", diff)
				}
				if got := strings.Join(notes, "\n"); tt.few != "" && got != strings.TrimPrefix(tt.few, "nothing") {
					t.Errorf("noted\n%s\nwant\n%s", got, tt.few)
				}
				if again := r.dry(adjust); tt.after == nil && again != nil {
					t.Errorf("noted after the loop: %q", again)
				}
			})
		})
	}
}

// A setting is noted with the value that it is to have, once, and only if it has another one.
func TestDrySettings(t *testing.T) {
	settings := sysctl.NewFake(sysctl.Setting{Name: "net/ipv4/ip_forward", Value: "0"}, sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "1"})
	var notes []string
	dry := Dry(Kernel{Sysctl: settings}, func(op string) { notes = append(notes, op) }).Sysctl
	wanted := []sysctl.Setting{{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv4/vs/conntrack", Value: "1"}, {Name: "net/ipv4/vs/none", Value: "1"}}
	for range 2 {
		if errs := dry.Do(t.Context(), wanted); errs[0] != nil || errs[1] != nil || errs[2] == nil {
			t.Errorf("%q", errs)
		}
	}
	if want := []string{"sysctl -w net/ipv4/ip_forward=1"}; !slices.Equal(notes, want) {
		t.Errorf("noted %q, want %q", notes, want)
	}
	if values, _ := dry.Read(t.Context(), []string{"net/ipv4/ip_forward"}); values["net/ipv4/ip_forward"] != "1" {
		t.Errorf("afterwards it reads %q", values)
	}
}
