package ipvsmode

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/plan"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// ep is a ready endpoint at 10.244.0.N on another node, but for what edits say.
func ep(n byte, edits ...func(*plan.Endpoint)) plan.Endpoint {
	e := plan.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, n}), Node: "elsewhere", Ready: true, Serving: true}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

func here(e *plan.Endpoint) { e.Node = "here" }

var port80 = plan.Port{Name: "http", Proto: inet.TCP, Port: 80}

func sliceOf(endpoints ...plan.Endpoint) plan.Slice {
	return plan.Slice{Ports: []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}, Endpoints: endpoints}
}

// numbers are the last bytes of addresses.
func numbers(list []netip.AddrPort) []int {
	var out []int
	for _, at := range list {
		b := at.Addr().As16()
		out = append(out, int(b[15]))
	}
	return out
}

func ops(items []steering.Item) []string {
	var out []string
	for _, i := range items {
		out = append(out, steering.Op{Item: i}.String())
	}
	return out
}

// text is what a Service needs as lines: what it is, what happens there, who serves it.
func text(f plan.Desired) string {
	var b strings.Builder
	for _, fe := range f.Frontends {
		fmt.Fprintf(&b, "%v %v %v: %v", fe.Kind, fe.Protocol, fe.AddrPort(), TreatmentOf(&fe))
		if IsDiverted(&fe, false) {
			b.WriteString(", diverted")
		}
		if fe.Rejected {
			b.WriteString(", rejected")
		}
		fmt.Fprintf(&b, "; to %v", numbers(fe.Backends))
		if fe.Internal != nil {
			fmt.Fprintf(&b, ", internal %v at %v", numbers(fe.Internal.Backends), AliasKey(fe.Address).AddrPort())
		}
		if fe.Restricted {
			fmt.Fprintf(&b, "; from %v", fe.SourceRanges)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Every policy, for every kind of frontend, with endpoints here and elsewhere, here only, elsewhere only, and none.
func TestFrontendsOfEveryPolicy(t *testing.T) {
	both, local, remote := []plan.Endpoint{ep(1, here), ep(2)}, []plan.Endpoint{ep(1, here)}, []plan.Endpoint{ep(2)}
	const kinds = "cluster IP tcp 10.96.0.10:80: %s\nload-balancer IP tcp 198.18.0.20:80: %s\nexternal IP tcp 198.18.0.10:80: %s\nnode port tcp 192.168.0.1:30080: %s\n"
	// lines are all four frontends: three of them are external and differ in what makes the node take packets, and in the alias.
	lines := func(cluster, external string) string {
		at := func(diverted, alias string) string {
			return strings.NewReplacer("DIVERTED", diverted, "ALIAS", alias).Replace(external)
		}
		return fmt.Sprintf(kinds, cluster, at(", diverted", "255.18.0.20:80"), at(", diverted", "255.18.0.10:80"), at("", "255.168.0.1:30080"))
	}
	tests := []struct {
		name               string
		internal, external bool // Local
		masqueradeAll      bool
		endpoints          []plan.Endpoint
		want               string
	}{
		{name: "Cluster, endpoints here and elsewhere", endpoints: both,
			want: lines("masquerade external; to [1 2]", "masqueradeDIVERTED; to [1 2]")},
		{name: "Cluster, none", want: lines("keep source, rejected; to []", "keep sourceDIVERTED, rejected; to []")},
		{name: "Cluster, masquerade all", endpoints: both, masqueradeAll: true,
			want: lines("masquerade; to [1 2]", "masqueradeDIVERTED; to [1 2]")},
		{name: "internal Local, here and elsewhere", internal: true, endpoints: both,
			want: lines("masquerade external; to [1]", "masqueradeDIVERTED; to [1 2]")},
		{name: "internal Local, elsewhere", internal: true, endpoints: remote,
			want: lines("masquerade external; to []; from []", "masqueradeDIVERTED; to [2]")},
		{name: "internal Local, elsewhere, masquerade all", internal: true, endpoints: remote, masqueradeAll: true,
			want: lines("masquerade; to []; from []", "masqueradeDIVERTED; to [2]")},
		{name: "internal Local, none", internal: true,
			want: lines("keep source, rejected; to []", "keep sourceDIVERTED, rejected; to []")},
		{name: "external Local, here and elsewhere", external: true, endpoints: both,
			want: lines("masquerade external; to [1 2]", "keep sourceDIVERTED; to [1], internal [1 2] at ALIAS")},
		{name: "external Local, here", external: true, endpoints: local,
			want: lines("masquerade external; to [1]", "keep sourceDIVERTED; to [1]")},
		{name: "external Local, elsewhere", external: true, endpoints: remote,
			want: lines("masquerade external; to [2]", "drop externalDIVERTED; to [2]")},
		{name: "external Local, none", external: true,
			want: lines("keep source, rejected; to []", "keep sourceDIVERTED, rejected; to []")},
		{name: "both Local, here and elsewhere", internal: true, external: true, endpoints: both,
			want: lines("masquerade external; to [1]", "keep sourceDIVERTED; to [1], internal [1 2] at ALIAS")},
		{name: "both Local, elsewhere", internal: true, external: true, endpoints: remote,
			want: lines("masquerade external; to []; from []", "drop externalDIVERTED; to [2]")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := plan.Service{
				Ports:      []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}},
				ClusterIPs: addrs("10.96.0.10"), ExternalIPs: addrs("198.18.0.10"), LoadBalancerIPs: addrs("198.18.0.20"),
				InternalLocal: tt.internal, ExternalLocal: tt.external,
			}
			node := plan.Node{Name: "here", Addresses: addrs("192.168.0.1")}
			f := plan.Compute(plan.Config{MasqueradeAll: tt.masqueradeAll}, svc, []plan.Slice{sliceOf(tt.endpoints...)}, node)
			if diff := cmp.Diff(tt.want, text(f)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			elsewhere := len(tt.endpoints) > 0 && tt.endpoints[0].Node != "here"
			if want := (plan.Unserved{Internal: tt.internal && elsewhere, External: tt.external && elsewhere}); f.Unserved[inet.IPv4] != want {
				t.Errorf("Unserved = %+v, want %+v", f.Unserved[inet.IPv4], want)
			}
		})
	}
}

func TestFrontends(t *testing.T) {
	base := func() plan.Service {
		return plan.Service{Name: plan.Name{Namespace: "default", Name: "web"}, Ports: []plan.Port{port80}, ClusterIPs: addrs("10.96.0.10")}
	}
	tests := []struct {
		name string
		cfg  plan.Config
		svc  func(*plan.Service)
		node plan.Node
		want string
	}{
		{name: "no ports", svc: func(s *plan.Service) { s.Ports = nil }},
		{name: "no addresses", svc: func(s *plan.Service) { s.ClusterIPs = nil }},
		{name: "no cluster IP, but an external one: its family is not the Service's", svc: func(s *plan.Service) { s.ClusterIPs, s.ExternalIPs = nil, addrs("198.18.0.10") }},
		{name: "an external IP of a family that the Service does not have", svc: func(s *plan.Service) { s.ExternalIPs = addrs("2001:db8::1") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "a node port without node addresses", svc: func(s *plan.Service) { s.Ports[0].NodePort = 30080 },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "dual stack, IPv6 first", svc: func(s *plan.Service) { s.ClusterIPs = addrs("fd00::10", "10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\ncluster IP tcp [fd00::10]:80: masquerade external; to [6]\n"},
		{name: "an external IP that is listed twice", svc: func(s *plan.Service) { s.ExternalIPs = addrs("198.18.0.10", "198.18.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\nexternal IP tcp 198.18.0.10:80: masquerade, diverted; to [1]\n"},
		{name: "a load-balancer IP that is also an external one keeps its ranges",
			svc: func(s *plan.Service) {
				s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges = addrs("198.18.0.10"), addrs("198.18.0.10"), prefixes("203.0.113.0/24", "2001:db8::/32")
			},
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\nload-balancer IP tcp 198.18.0.10:80: masquerade, diverted; to [1]; from [203.0.113.0/24]\n"},
		{name: "a cluster IP that is also an external one", svc: func(s *plan.Service) { s.ExternalIPs = addrs("10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "an external IP of this node at the number of the node port", node: plan.Node{Own: addrs("192.168.0.1"), Addresses: addrs("192.168.0.1")},
			svc: func(s *plan.Service) {
				s.Ports[0].Port, s.Ports[0].NodePort, s.ExternalIPs = 30080, 30080, addrs("192.168.0.1")
			},
			want: "cluster IP tcp 10.96.0.10:30080: masquerade external; to [1]\nexternal IP tcp 192.168.0.1:30080: masquerade; to [1]\n"},
		{name: "one number in three protocols",
			svc: func(s *plan.Service) {
				s.Ports = []plan.Port{port80, {Name: "u", Proto: inet.UDP, Port: 80}, {Name: "s", Proto: inet.SCTP, Port: 80}}
			},
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\ncluster IP udp 10.96.0.10:80: keep source, rejected; to []\ncluster IP sctp 10.96.0.10:80: keep source, rejected; to []\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := base()
			tt.svc(&svc)
			six := sliceOf(plan.Endpoint{Addr: netip.MustParseAddr("fd00:244::6"), Ready: true})
			f := plan.Compute(tt.cfg, svc, []plan.Slice{sliceOf(ep(1)), six}, tt.node)
			if diff := cmp.Diff(tt.want, text(f)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What makes the node take packets for each kind of frontend.
func TestVIPs(t *testing.T) {
	const (
		local    = "10.96.0.10:80, not diverted [ip route add local 10.96.0.10/32 dev kube-ipvs0 table local]"
		inRange  = "10.96.0.10:80, not diverted []"
		lb       = "198.18.0.20:80, diverted [ip route add local 198.18.0.20/32 dev kube-ipvs0 table 7598 ip route add 198.18.0.20/32 dev kube-ipvs0 table 7599]"
		own      = "192.168.0.1:80, not diverted []"
		nodePort = "192.168.0.1:30080, not diverted []"
	)
	const (
		local6 = "[fd00::10]:80, not diverted [ip route add local fd00::10/128 dev kube-ipvs0 table local]"
		lb6    = "[2001:db8::20]:80, diverted [ip route add local 2001:db8::20/128 dev kube-ipvs0 table 7598 ip route add 2001:db8::20/128 dev kube-ipvs0 table 7599]"
	)
	tests := []struct {
		name string
		cfg  plan.Config
		own  []netip.Addr
		want []string
	}{
		{"no range of cluster IPs known", plan.Config{}, addrs("192.168.0.1"), []string{local, lb, own, nodePort, local6, lb6}},
		{"cluster IPs in a range", plan.Config{ServiceCIDRs: prefixes("fd01::/112", "10.96.0.0/16")}, addrs("192.168.0.1"),
			[]string{inRange, lb, own, nodePort, local6, lb6}},
		{"cluster IPs in another range", plan.Config{ServiceCIDRs: prefixes("10.97.0.0/16")}, addrs("192.168.0.1"),
			[]string{local, lb, own, nodePort, local6, lb6}},
		{"bound, but for what the node has anyway", plan.Config{Bind: true, ServiceCIDRs: prefixes("10.96.0.0/16")}, addrs("192.168.0.1"), []string{
			"10.96.0.10:80, not diverted [ip address add 10.96.0.10/32 dev kube-ipvs0]",
			"198.18.0.20:80, not diverted [ip address add 198.18.0.20/32 dev kube-ipvs0]", own, nodePort,
			"[fd00::10]:80, not diverted [ip address add fd00::10/128 dev kube-ipvs0]",
			"[2001:db8::20]:80, not diverted [ip address add 2001:db8::20/128 dev kube-ipvs0]",
		}},
		{"the load balancer's addresses are the node's, as of k3s", plan.Config{}, addrs("192.168.0.1", "198.18.0.20", "2001:db8::20"),
			[]string{local, "198.18.0.20:80, not diverted []", own, nodePort, local6, "[2001:db8::20]:80, not diverted []"}},
		{"the external address is another node's", plan.Config{}, addrs("192.168.0.2"), []string{local, lb,
			"192.168.0.1:80, diverted [ip route add local 192.168.0.1/32 dev kube-ipvs0 table 7598 ip route add 192.168.0.1/32 dev kube-ipvs0 table 7599]", nodePort, local6, lb6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := plan.Service{
				Ports:      []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}},
				ClusterIPs: addrs("10.96.0.10", "fd00::10"), ExternalIPs: addrs("192.168.0.1"), LoadBalancerIPs: addrs("198.18.0.20", "2001:db8::20"),
			}
			node := plan.Node{Own: tt.own, Addresses: addrs("192.168.0.1")}
			var got []string
			for _, fe := range plan.Compute(tt.cfg, svc, nil, node).Frontends {
				diverted := map[bool]string{true: "diverted", false: "not diverted"}[IsDiverted(&fe, tt.cfg.Bind)]
				got = append(got, fmt.Sprintf("%v, %s %v", fe.AddrPort(), diverted, ops(ItemsOf(&fe, tt.cfg.Bind))))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettingsOfServers(t *testing.T) {
	svc := plan.Service{
		Ports: []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10"),
		ExternalLocal: true, Affinity: 3 * time.Hour,
	}
	// Schedulers that choose by the client's address are told to choose again where their choice has weight 0.
	for scheduler, flags := range map[string]ipvs.Flags{"rr": 0, "wlc": 0, "dh": 0, "mh": ipvs.Flag1, "sh": ipvs.Flag1} {
		f := plan.Compute(plan.Config{Scheduler: scheduler}, svc, []plan.Slice{sliceOf(ep(1, here), ep(2))}, plan.Node{Name: "here", Addresses: addrs("192.168.0.1")})
		want := ipvs.Server{Scheduler: scheduler, Timeout: 10800, Flags: flags}
		for _, fe := range f.Frontends {
			if got := ServerOf(&fe); got != want {
				t.Errorf("%v: %v, want %v", fe.Address, got, want)
			}
		}
	}
}
