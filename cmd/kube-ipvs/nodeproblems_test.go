package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// Forwarding is not enabled where the kernel would drop a default route for it, and the reason names the remedy.
func TestLostRoutes(t *testing.T) {
	settings := sysctl.NewFake(
		sysctl.Setting{Name: "net/ipv6/conf/eth0/accept_ra", Value: "1"},
		sysctl.Setting{Name: "net/ipv6/conf/eth1/accept_ra", Value: "2"},
		sysctl.Setting{Name: "net/ipv6/conf/eth2/accept_ra", Value: "0"})
	for _, tt := range []struct {
		name  string
		links []string
		want  string // in the error; empty: none
	}{
		{"no advertised route", nil, ""},
		{"one that is kept", []string{"eth1"}, ""},
		{"one that would be dropped", []string{"eth0"}, "sysctl -w net/ipv6/conf/eth0/accept_ra=2"},
		{"some of each", []string{"eth0", "eth1", "eth2"}, "eth0/accept_ra=2; sysctl -w net/ipv6/conf/eth2/accept_ra=2"},
		{"a link that went meanwhile", []string{"eth9"}, "eth9"},
	} {
		err := lostRoutes(t.Context(), settings, tt.links)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Bridged packets must pass iptables in each family in which pods are on a bridge.
func TestUnbridged(t *testing.T) {
	both := node.Bridge{Name: "cni0", IPv4: true, IPv6: true}
	four, six := sysctl.Setting{Name: "net/bridge/bridge-nf-call-iptables", Value: "1"}, sysctl.Setting{Name: "net/bridge/bridge-nf-call-ip6tables", Value: "1"}
	off := four
	off.Value = "0"
	for _, tt := range []struct {
		name     string
		bridge   node.Bridge
		settings []sysctl.Setting
		want     []string
	}{
		{"no bridge", node.Bridge{}, nil, nil},
		{"no br_netfilter", node.Bridge{Name: "cni0", IPv4: true}, nil, []string{"net.bridge.bridge-nf-call-iptables"}},
		{"switched off", node.Bridge{Name: "cni0", IPv4: true}, []sysctl.Setting{off}, []string{"net.bridge.bridge-nf-call-iptables"}},
		{"one of two", both, []sysctl.Setting{four}, []string{"net.bridge.bridge-nf-call-ip6tables"}},
		{"all in order", both, []sysctl.Setting{four, six}, nil},
	} {
		var got []string
		for _, p := range unbridged(t.Context(), sysctl.NewFake(tt.settings...), tt.bridge, "Node n") {
			got = append(got, p.Field)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A problem of the node is reported once as long as it lasts, whichever component finds it.
func TestNodeReporter(t *testing.T) {
	var posted []kube.Event
	lines := 0
	r := newNodeReporter(funcr.New(func(_, line string) { lines++ }, funcr.Options{}), func(n kube.Event) { posted = append(posted, n) })
	one, two := plan.Problem{Field: "a", Reason: "is wrong"}, plan.Problem{Field: "b", Reason: "is wrong"}
	for _, tt := range []struct {
		part          string
		problems      []plan.Problem
		posted, lines int
		count         float64
	}{
		{"loop", []plan.Problem{one}, 1, 1, 1},
		{"loop", []plan.Problem{one}, 0, 0, 1},
		{"bridge", nil, 0, 0, 1},
		{"bridge", []plan.Problem{two}, 1, 1, 2},
		{"loop", []plan.Problem{two}, 1, 2, 2},
		{"loop", nil, 0, 1, 1},
		{"loop", []plan.Problem{one}, 1, 1, 2},
	} {
		posted, lines = nil, 0
		r.report(tt.part, tt.problems)
		var count dto.Metric
		if err := r.count.Write(&count); err != nil {
			t.Fatal(err)
		}
		if len(posted) != tt.posted || lines != tt.lines || count.GetGauge().GetValue() != tt.count || tt.posted > 0 && !posted[0].NodeLocal {
			t.Errorf("%s, %v: posted %v, %d lines", tt.part, tt.problems, posted, lines)
		}
	}
}

// A nodeSource is a source with a given Node.
type nodeSource struct {
	source.Source
	node object.Node
}

func (s *nodeSource) Node() object.Node { return s.node }

func (s *nodeSource) ServiceCIDRs() []netip.Prefix { return nil }

// The node's connections to cluster IPs keep the Node's address as source while the Node is away, or has no address for a moment.
func TestSourceWhileTheNodeIsAway(t *testing.T) {
	docker, internal := netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("192.168.77.11")
	s := &nodeSource{}
	p := &proxy{
		config: &config.Config{}, source: s, kernel: &ipvsmode.Connection{}, problems: newNodeReporter(logr.Discard(), func(kube.Event) {}),
		ports: health.NewNodePorts(health.NewState(time.Minute), nil, func(plan.Name, error) {}),
	}
	for _, addresses := range [][]netip.Addr{{internal}, nil} {
		s.node.Addresses = addresses
		n, _, err := p.refreshNode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.Own = []netip.Addr{docker, internal}
		if got := n.Source(true); got != internal {
			t.Errorf("the Node has %v: the source is %v, want %v", addresses, got, internal)
		}
	}
}

// With --nodeport-addresses=primary node ports are at the Node's first address of each family, and stay there while the Node
// is unknown.
func TestPrimaryAddresses(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	s := &nodeSource{}
	p := &proxy{config: &config.Config{NodePorts: config.NodePorts{Primary: true}}, source: s}
	own := addrs("10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::1", "2001:db8::2")
	for _, tt := range []struct {
		name      string
		node, own []netip.Addr
		want      []netip.Addr
	}{
		{"nothing was known yet", nil, own, nil},
		{"one address: the other family is not restricted", addrs("10.0.0.2"), own, addrs("10.0.0.2", "2001:db8::1", "2001:db8::2")},
		{"internal and external ones of both families", addrs("10.0.0.1", "2001:db8::2", "192.0.2.1", "2001:db8::1"), own, addrs("10.0.0.1", "2001:db8::2")},
		{"the Node is away", nil, own, addrs("10.0.0.1", "2001:db8::2")},
		{"and the machine loses an address", nil, own[1:], addrs("2001:db8::2")},
		{"the Node is back with another", addrs("192.0.2.1"), own, addrs("192.0.2.1", "2001:db8::1", "2001:db8::2")},
		{"an address that the machine does not have", addrs("203.0.113.1", "10.0.0.1"), own, addrs("2001:db8::1", "2001:db8::2")},
	} {
		s.node.Addresses = tt.node
		p.keepAddresses(s.Node())
		if got := p.nodePortAddresses(tt.own); len(got)+len(tt.want) > 0 && !cmp.Equal(got, tt.want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
