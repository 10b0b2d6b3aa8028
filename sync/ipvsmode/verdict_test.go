package ipvsmode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// The sources of these tests.
var (
	aPod    = netip.MustParseAddr("10.244.9.9")
	aNode   = netip.MustParseAddr("192.168.0.1")
	aClient = netip.MustParseAddr("198.51.100.7")
)

// Decide says in a line what becomes of each source. The packet matrix (test/packet) holds it against packets.
func TestDecide(t *testing.T) {
	pods := Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	here, far := netip.MustParseAddrPort("10.244.9.9:8080"), netip.MustParseAddrPort("10.244.2.1:8080")
	both := []netip.AddrPort{here, far}
	for _, tt := range []struct {
		name string
		fe   *plan.Frontend
		edit func(*Situation)
		want []string // by origin
	}{
		{"a cluster IP", &plan.Frontend{Allocated: true, Masquerade: plan.MasqueradeExternal, Backends: both}, nil, []string{
			"pod: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, or itself masqueraded", "node: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, masqueraded", "outside: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, masqueraded",
		}},
		{"pods cannot be found", &plan.Frontend{Masquerade: plan.MasqueradeExternal, Backends: []netip.AddrPort{far}}, func(s *Situation) { s.Detector = Detector{} },
			[]string{"outside: 1/1 of 10.244.2.1:8080", "node: 1/1 of 10.244.2.1:8080", "outside: 1/1 of 10.244.2.1:8080"}},
		{"pods are found by interface", &plan.Frontend{Masquerade: plan.MasqueradeExternal, Backends: []netip.AddrPort{far}}, func(s *Situation) { s.Detector = Detector{Interface: "cni0"} }, []string{
			"pod: 1/1 of 10.244.2.1:8080 | outside: 1/1 of 10.244.2.1:8080, masqueraded", "node: 1/1 of 10.244.2.1:8080, masqueraded", "pod: 1/1 of 10.244.2.1:8080 | outside: 1/1 of 10.244.2.1:8080, masqueraded",
		}},
		{"no endpoint", &plan.Frontend{Rejected: true, Masquerade: plan.MasqueradeAll}, nil, []string{"pod: refused", "node: refused", "outside: refused"}},
		{"external Local, none here", &plan.Frontend{Kind: plan.LoadBalancerIP, DropExternal: true, Backends: []netip.AddrPort{far}}, nil,
			[]string{"pod: 1/1 of 10.244.2.1:8080", "node: 1/1 of 10.244.2.1:8080, masqueraded", "outside: dropped"}},
		{"external Local, here and elsewhere", &plan.Frontend{Kind: plan.NodePort, OnNode: true, Backends: both[:1], Internal: &plan.Internal{Backends: both}},
			func(s *Situation) { s.Alias = true }, []string{
				"pod: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, or itself masqueraded", "node: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, masqueraded", "outside: 1/1 of 10.244.9.9:8080",
			}},
		{"and the alias is taken", &plan.Frontend{Kind: plan.ExternalIP, Backends: both[:1], Internal: &plan.Internal{Backends: both}}, nil,
			[]string{"pod: 1/1 of 10.244.9.9:8080, or itself masqueraded", "node: 1/1 of 10.244.9.9:8080, masqueraded", "outside: 1/1 of 10.244.9.9:8080"}},
		{"a source that is an endpoint on another node", &plan.Frontend{Masquerade: plan.MasqueradeExternal, Backends: both}, func(s *Situation) { s.Hairpins = nil },
			[]string{"pod: 1/2 of 10.244.9.9:8080 10.244.2.1:8080", "node: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, masqueraded", "outside: 1/2 of 10.244.9.9:8080 10.244.2.1:8080, masqueraded"}},
		{"internal Local, none here", &plan.Frontend{Restricted: true}, nil, []string{"pod: dropped", "node: dropped", "outside: dropped"}},
		{"source ranges", &plan.Frontend{Kind: plan.LoadBalancerIP, Restricted: true, SourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Masquerade: plan.MasqueradeAll, Backends: []netip.AddrPort{far}}, nil,
			[]string{"pod: dropped", "node: dropped", "outside: 1/1 of 10.244.2.1:8080, masqueraded"}},
		{"not a frontend, in a service range", nil, nil, []string{"pod: refused", "node: refused", "outside: refused"}},
		{"not a frontend, elsewhere", nil, func(s *Situation) { s.Ranges = nil }, []string{"pod: not served", "node: not served", "outside: not served"}},
		{"an external IP that is not on", &plan.Frontend{Kind: plan.ExternalIP, Backends: both}, func(s *Situation) { s.Ranges, s.Off = nil, "it is not programmed yet" },
			[]string{"pod: not served", "node: not served", "outside: not served"}},
		{"a scheduler that looks at sources", &plan.Frontend{Scheduler: "sh", Masquerade: plan.MasqueradeAll, Backends: []netip.AddrPort{far}}, nil,
			[]string{"pod: one of 10.244.2.1:8080, masqueraded", "node: one of 10.244.2.1:8080, masqueraded", "outside: one of 10.244.2.1:8080, masqueraded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Situation{
				To:   plan.Address{Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Protocol: inet.TCP},
				Node: plan.Node{Own: []netip.Addr{aNode}, Primary: []netip.Addr{aNode}}, Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
				Detector: pods, Marks: MarksFor(14), Frontend: tt.fe, Hairpins: map[netip.AddrPort]bool{here: true},
			}
			if tt.fe != nil {
				tt.fe.Address = s.To
				if tt.fe.Scheduler == "" {
					tt.fe.Scheduler = "rr"
				}
			}
			if tt.edit != nil {
				tt.edit(&s)
			}
			var got []string
			for _, from := range []netip.Addr{aPod, aNode, aClient} {
				var each []string
				for _, o := range s.Origins(from) {
					each = append(each, line(Decide(s, o, from)))
				}
				got = append(got, strings.Join(each, " | "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// line is a verdict in a line.
func line(v loop.Verdict) string {
	if v.Outcome != loop.Delivered {
		return fmt.Sprintf("%v: %v", v.Origin, v.Outcome)
	}
	share := v.Share
	if share == "" {
		share = "one"
	}
	out := fmt.Sprintf("%v: %s of %s", v.Origin, share, strings.Trim(fmt.Sprint(v.Endpoints), "[]"))
	if v.Masqueraded {
		out += ", masqueraded"
	}
	if v.Hairpin {
		out += ", or itself masqueraded"
	}
	return out
}

// Each step that the kernel can show has a command for it, in the family's own sets and programs.
func TestStepsShowTheirCommands(t *testing.T) {
	to := plan.Address{Addr: netip.MustParseAddr("2001:db8::1"), Port: 53, Protocol: inet.UDP}
	at := netip.MustParseAddrPort("[fd00::1]:53")
	v := Decide(Situation{
		To: to, Marks: MarksFor(14), Detector: Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}}, Hairpins: map[netip.AddrPort]bool{at: true},
		Frontend: &plan.Frontend{Address: to, Kind: plan.ExternalIP, Scheduler: "rr", Backends: []netip.AddrPort{at}, Masquerade: plan.MasqueradeNone,
			Restricted: true, SourceRanges: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}},
	}, loop.FromPod, at.Addr())
	var got []string
	for _, s := range v.Steps {
		got = append(got, s.Command)
	}
	want := []string{
		"ip6tables -t mangle -S KIPVS-CLUSTER",
		"ipset test KIPVS-6-FRONTENDS 2001:db8::1,udp:53",
		"ipset test KIPVS-6-EXTERNAL 2001:db8::1,udp:53 && ip -6 route show table 7598 2001:db8::1",
		"ipset test KIPVS-6-ALLOWED 2001:db8::1,udp:53,fd00::1",
		"ipvsadm -Ln -u [2001:db8::1]:53",
		"ipset list KIPVS-6-FRONTENDS | grep -F '2001:db8::1,udp:53 '",
		"ipset test KIPVS-6-HAIRPINS fd00::1,udp:53,fd00::1",
	}
	if !slices.Equal(want, got) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
	}
}

// A data plane explains what it has programmed: a frontend that is not on is none to packets.
func TestExplainsWhatIsProgrammed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var d *Dataplane
		r.tweak = func(made *Dataplane) { d = made }
		r.set(1, []plan.Endpoint{{Addr: netip.MustParseAddr("10.244.2.1"), Ready: true}})
		r.start()
		to := plan.Address{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: inet.TCP}
		for _, want := range []string{"outside: not served", "outside: 1/1 of 10.244.2.1:8080"} {
			synctest.Wait()
			if got := d.Explain(to, aClient); len(got) != 1 || line(got[0]) != want {
				t.Errorf("%+v, want %s", got, want)
			}
			r.queue.Synced()
			synctest.Wait()
		}
	})
}
