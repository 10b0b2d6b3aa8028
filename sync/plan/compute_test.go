package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs"
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

// text is a fragment as lines: what it is, what happens there, who serves it.
func text(f Fragment) string {
	var b strings.Builder
	for _, fe := range f.Frontends {
		fmt.Fprintf(&b, "%v %v %v: %v", fe.Kind, fe.Key.Proto, fe.Key.AddrPort(), fe.Treatment)
		if fe.Diverted {
			b.WriteString(", diverted")
		}
		if fe.Rejected {
			b.WriteString(", rejected")
		}
		fmt.Fprintf(&b, "; to %v", numbers(fe.Reals))
		if fe.Internal != nil {
			fmt.Fprintf(&b, ", internal %v at %v", numbers(fe.Internal.Reals), fe.Internal.Key.AddrPort())
		}
		if fe.Ranged {
			fmt.Fprintf(&b, "; from %v", fe.Ranges)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Every policy, for every kind of frontend, with endpoints here and elsewhere, here only, elsewhere only, and none.
func TestFrontendsOfEveryPolicy(t *testing.T) {
	both, local, remote := []Endpoint{ep(1, here), ep(2)}, []Endpoint{ep(1, here)}, []Endpoint{ep(2)}
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
		endpoints          []Endpoint
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
			svc := Service{
				Ports:      []Port{{Name: "http", Proto: ipvs.TCP, Port: 80, NodePort: 30080}},
				ClusterIPs: addrs("10.96.0.10"), ExternalIPs: addrs("198.18.0.10"), LoadBalancerIPs: addrs("198.18.0.20"),
				InternalLocal: tt.internal, ExternalLocal: tt.external,
			}
			node := Node{Name: "here", Addresses: addrs("192.168.0.1")}
			f := Compute(Config{MasqueradeAll: tt.masqueradeAll}, svc, []Slice{sliceOf(tt.endpoints...)}, node)
			if diff := cmp.Diff(tt.want, text(f)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			elsewhere := len(tt.endpoints) > 0 && tt.endpoints[0].Node != "here"
			if want := (Unserved{tt.internal && elsewhere, tt.external && elsewhere}); f.Unserved != want {
				t.Errorf("Unserved = %+v, want %+v", f.Unserved, want)
			}
		})
	}
}

func TestFrontends(t *testing.T) {
	base := func() Service {
		return Service{Name: Name{"default", "web"}, Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10")}
	}
	tests := []struct {
		name string
		cfg  Config
		svc  func(*Service)
		node Node
		want string
	}{
		{name: "no ports", svc: func(s *Service) { s.Ports = nil }},
		{name: "no addresses", svc: func(s *Service) { s.ClusterIPs = nil }},
		{name: "no cluster IP, but an external one: its family is not the Service's", svc: func(s *Service) { s.ClusterIPs, s.ExternalIPs = nil, addrs("198.18.0.10") }},
		{name: "an external IP of a family that the Service does not have", svc: func(s *Service) { s.ExternalIPs = addrs("2001:db8::1") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "a node port without node addresses", svc: func(s *Service) { s.Ports[0].NodePort = 30080 },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "dual stack, IPv6 first", svc: func(s *Service) { s.ClusterIPs = addrs("fd00::10", "10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\ncluster IP tcp [fd00::10]:80: masquerade external; to [6]\n"},
		{name: "an external IP that is listed twice", svc: func(s *Service) { s.ExternalIPs = addrs("198.18.0.10", "198.18.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\nexternal IP tcp 198.18.0.10:80: masquerade, diverted; to [1]\n"},
		{name: "a load-balancer IP that is also an external one keeps its ranges",
			svc: func(s *Service) {
				s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges = addrs("198.18.0.10"), addrs("198.18.0.10"), prefixes("203.0.113.0/24", "2001:db8::/32")
			},
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\nload-balancer IP tcp 198.18.0.10:80: masquerade, diverted; to [1]; from [203.0.113.0/24]\n"},
		{name: "a cluster IP that is also an external one", svc: func(s *Service) { s.ExternalIPs = addrs("10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\n"},
		{name: "an external IP of this node at the number of the node port", node: Node{Own: addrs("192.168.0.1"), Addresses: addrs("192.168.0.1")},
			svc: func(s *Service) {
				s.Ports[0].Port, s.Ports[0].NodePort, s.ExternalIPs = 30080, 30080, addrs("192.168.0.1")
			},
			want: "cluster IP tcp 10.96.0.10:30080: masquerade external; to [1]\nexternal IP tcp 192.168.0.1:30080: masquerade; to [1]\n"},
		{name: "one number in three protocols",
			svc: func(s *Service) {
				s.Ports = []Port{port80, {Name: "u", Proto: ipvs.UDP, Port: 80}, {Name: "s", Proto: ipvs.SCTP, Port: 80}}
			},
			want: "cluster IP tcp 10.96.0.10:80: masquerade external; to [1]\ncluster IP udp 10.96.0.10:80: keep source, rejected; to []\ncluster IP sctp 10.96.0.10:80: keep source, rejected; to []\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := base()
			tt.svc(&svc)
			six := sliceOf(Endpoint{Addr: netip.MustParseAddr("fd00:244::6"), Ready: true})
			f := Compute(tt.cfg, svc, []Slice{sliceOf(ep(1)), six}, tt.node)
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
		cfg  Config
		own  []netip.Addr
		want []string
	}{
		{"no range of cluster IPs known", Config{}, addrs("192.168.0.1"), []string{local, lb, own, nodePort, local6, lb6}},
		{"cluster IPs in a range", Config{ServiceCIDRs: prefixes("fd01::/112", "10.96.0.0/16")}, addrs("192.168.0.1"),
			[]string{inRange, lb, own, nodePort, local6, lb6}},
		{"cluster IPs in another range", Config{ServiceCIDRs: prefixes("10.97.0.0/16")}, addrs("192.168.0.1"),
			[]string{local, lb, own, nodePort, local6, lb6}},
		{"bound, but for what the node has anyway", Config{Bind: true, ServiceCIDRs: prefixes("10.96.0.0/16")}, addrs("192.168.0.1"), []string{
			"10.96.0.10:80, not diverted [ip address add 10.96.0.10/32 dev kube-ipvs0]",
			"198.18.0.20:80, not diverted [ip address add 198.18.0.20/32 dev kube-ipvs0]", own, nodePort,
			"[fd00::10]:80, not diverted [ip address add fd00::10/128 dev kube-ipvs0]",
			"[2001:db8::20]:80, not diverted [ip address add 2001:db8::20/128 dev kube-ipvs0]",
		}},
		{"the load balancer's addresses are the node's, as of k3s", Config{}, addrs("192.168.0.1", "198.18.0.20", "2001:db8::20"),
			[]string{local, "198.18.0.20:80, not diverted []", own, nodePort, local6, "[2001:db8::20]:80, not diverted []"}},
		{"the external address is another node's", Config{}, addrs("192.168.0.2"), []string{local, lb,
			"192.168.0.1:80, diverted [ip route add local 192.168.0.1/32 dev kube-ipvs0 table 7598 ip route add 192.168.0.1/32 dev kube-ipvs0 table 7599]", nodePort, local6, lb6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{
				Ports:      []Port{{Name: "http", Proto: ipvs.TCP, Port: 80, NodePort: 30080}},
				ClusterIPs: addrs("10.96.0.10", "fd00::10"), ExternalIPs: addrs("192.168.0.1"), LoadBalancerIPs: addrs("198.18.0.20", "2001:db8::20"),
			}
			node := Node{Own: tt.own, Addresses: addrs("192.168.0.1")}
			var got []string
			for _, fe := range Compute(tt.cfg, svc, nil, node).Frontends {
				diverted := map[bool]string{true: "diverted", false: "not diverted"}[fe.Diverted]
				got = append(got, fmt.Sprintf("%v, %s %v", fe.Key.AddrPort(), diverted, ops(fe.VIPs)))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A node that the ranges allow may also come from the load balancer's own address, which it uses where it has it.
func TestRangesOfTheNode(t *testing.T) {
	tests := []struct {
		name   string
		ranges []netip.Prefix
		own    []netip.Addr
		want   []netip.Prefix
	}{
		{"no ranges", nil, addrs("192.168.0.1"), nil},
		{"the node is in a range", prefixes("192.168.0.0/24"), addrs("192.168.0.1"), prefixes("192.168.0.0/24", "198.18.0.20/32")},
		{"one of its addresses is", prefixes("203.0.113.0/24", "10.1.0.0/16"), addrs("10.1.0.1", "192.168.0.1"), prefixes("203.0.113.0/24", "10.1.0.0/16", "198.18.0.20/32")},
		{"it is in none", prefixes("203.0.113.0/24"), addrs("192.168.0.1"), prefixes("203.0.113.0/24")},
		{"only its IPv6 address is", prefixes("203.0.113.0/24", "fd00::/64"), addrs("192.168.0.1", "fd00::1"), prefixes("203.0.113.0/24")},
		{"a node without addresses", prefixes("0.0.0.0/1"), nil, prefixes("0.0.0.0/1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{
				Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10"), LoadBalancerIPs: addrs("198.18.0.20", "198.18.0.21"), SourceRanges: tt.ranges,
			}
			f := Compute(Config{}, svc, []Slice{sliceOf(ep(1))}, Node{Own: tt.own})
			first, second := f.Frontends[1], f.Frontends[2]
			if diff := cmp.Diff(fmt.Sprint(tt.want), fmt.Sprint(first.Ranges)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := strings.ReplaceAll(fmt.Sprint(tt.want), "198.18.0.20", "198.18.0.21")
			if diff := cmp.Diff(want, fmt.Sprint(second.Ranges)); diff != "" {
				t.Errorf("second address (-want +got):\n%s", diff)
			}
			if f.Frontends[0].Ranges != nil || !f.UsesAddresses {
				t.Errorf("cluster IP from %v, uses addresses %v", f.Frontends[0].Ranges, f.UsesAddresses)
			}
		})
	}
}

func TestSettingsOfServers(t *testing.T) {
	svc := Service{
		Ports: []Port{{Name: "http", Proto: ipvs.TCP, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10"),
		ExternalLocal: true, Affinity: 3 * time.Hour,
	}
	// Schedulers that choose by the client's address are told to choose again where their choice has weight 0.
	for scheduler, flags := range map[string]ipvs.Flags{"rr": 0, "wlc": 0, "dh": 0, "mh": ipvs.Flag1, "sh": ipvs.Flag1} {
		f := Compute(Config{Scheduler: scheduler}, svc, []Slice{sliceOf(ep(1, here), ep(2))}, Node{Name: "here", Addresses: addrs("192.168.0.1")})
		want := ipvs.Server{Scheduler: scheduler, Timeout: 10800, Flags: flags}
		for _, fe := range f.Frontends {
			if fe.Server != want {
				t.Errorf("%v: %v, want %v", fe.Key, fe.Server, want)
			}
		}
	}
}

// Endpoints that may run here may meet themselves, whatever their state; those that certainly run elsewhere not.
func TestHairpins(t *testing.T) {
	nowhere := func(e *Endpoint) { e.Node = "" }
	svc := Service{Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10")}
	f := Compute(Config{}, svc, []Slice{sliceOf(ep(1, here), ep(2), ep(3, here, dead), ep(4, here, unready), ep(5, nowhere))}, thisNode)
	var got []netip.AddrPort
	for _, h := range f.Hairpins {
		got = append(got, h.At)
	}
	if diff := cmp.Diff([]int{1, 3, 4, 5}, numbers(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func inIPv6(e *Endpoint) { e.Addr = netip.AddrFrom16([16]byte{0: 0xfd, 15: e.Addr.As4()[3]}) }

// What a health-check node port answers: distinct addresses of ready endpoints here, over all ports (TestGetLocalEndpointIPs).
func TestHealth(t *testing.T) {
	tests := []struct {
		name   string
		slices []Slice
		node   Node
		want   int
	}{
		{name: "none", node: thisNode},
		{name: "elsewhere only", node: thisNode, slices: []Slice{sliceOf(ep(1))}},
		{name: "one here", node: thisNode, slices: []Slice{sliceOf(ep(1, here), ep(2))}, want: 1},
		{name: "one address in two slices counts once", node: thisNode, slices: []Slice{sliceOf(ep(1, here)), sliceOf(ep(1, here))}, want: 1},
		{name: "two addresses", node: thisNode, slices: []Slice{sliceOf(ep(1, here), ep(2, here))}, want: 2},
		{name: "a pod of two families counts once", node: thisNode, slices: []Slice{sliceOf(ep(1, here), ep(2, here)), sliceOf(ep(1, here, inIPv6), ep(2, here, inIPv6))}, want: 2},
		{name: "one of one family, and one of two", node: thisNode, slices: []Slice{sliceOf(ep(1, here)), sliceOf(ep(1, here, inIPv6), ep(2, here, inIPv6))}, want: 2},
		{name: "unready ones do not count", node: thisNode, slices: []Slice{sliceOf(ep(1, here), ep(2, here, unready))}, want: 1},
		{name: "terminating ones do not count", node: thisNode, slices: []Slice{sliceOf(ep(1, here, terminating), ep(2, here, terminating))}},
		{name: "a node without a name has none", slices: []Slice{sliceOf(ep(1, func(e *Endpoint) { e.Node = "" }))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{HealthCheckNodePort: 31000}
			got := Compute(Config{}, svc, tt.slices, tt.node).Health
			if diff := cmp.Diff(&Health{31000, tt.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	f := Compute(Config{}, Service{HealthCheckNodePort: 31000, LoadBalancerIPs: addrs("198.18.0.20", "fd00::20")}, nil, Node{Own: addrs("192.168.0.1")})
	if got, want := fmt.Sprint(f.Probed, f.UsesAddresses), "[192.168.0.1:31000 198.18.0.20:31000 [fd00::20]:31000] true"; got != want {
		t.Errorf("probed at %s, want %s", got, want)
	}
	if h := Compute(Config{}, Service{}, nil, thisNode).Health; h != nil {
		t.Errorf("health %+v of a Service without health-check node port", h)
	}
}

// A fragment depends on the node's addresses if it has node ports, and if it has addresses that the node could have itself, or has
// to ask with one of its own.
func TestUsesAddresses(t *testing.T) {
	inRange := Config{ServiceCIDRs: prefixes("10.96.0.0/16")}
	bound := inRange
	bound.Bind = true
	base := func() Service { return Service{Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10")} }
	with := func(edit func(*Service)) Service { s := base(); edit(&s); return s }
	for _, tt := range []struct {
		name string
		cfg  Config
		svc  Service
		want bool
	}{
		{"a cluster IP in a range", inRange, base(), false},
		{"a cluster IP in no range", Config{}, base(), true},
		{"a bound cluster IP", bound, base(), true},
		{"a node port", inRange, with(func(s *Service) { s.Ports = []Port{port80, {Name: "n", Proto: ipvs.TCP, Port: 81, NodePort: 30080}} }), true},
		{"an external IP", inRange, with(func(s *Service) { s.ExternalIPs = addrs("198.18.0.10") }), true},
		{"a load balancer's IP", inRange, with(func(s *Service) { s.LoadBalancerIPs = addrs("198.18.0.10") }), true},
		{"a health-check node port", inRange, with(func(s *Service) { s.HealthCheckNodePort = 31000 }), true},
		{"no ports", bound, with(func(s *Service) { s.Ports = nil }), false},
	} {
		if f := Compute(tt.cfg, tt.svc, nil, thisNode); f.UsesAddresses != tt.want {
			t.Errorf("%s: UsesAddresses = %v, want %v", tt.name, f.UsesAddresses, tt.want)
		}
	}
}

// A node asks cluster IPs with the address that the Node object names first, if it has that.
func TestSource(t *testing.T) {
	for _, tt := range []struct {
		name         string
		primary, own []netip.Addr
		v4, v6       string
	}{
		{"no addresses", nil, nil, "invalid IP", "invalid IP"},
		{"the primary one", addrs("192.168.0.2"), addrs("192.168.0.1", "192.168.0.2"), "192.168.0.2", "invalid IP"},
		{"one of each family", addrs("fd00::2", "192.168.0.2"), addrs("192.168.0.1", "192.168.0.2", "fd00::1", "fd00::2"), "192.168.0.2", "fd00::2"},
		{"no primary one", nil, addrs("fd00::1", "192.168.0.1", "192.168.0.2"), "192.168.0.1", "fd00::1"},
		{"a primary one that the node does not have", addrs("203.0.113.1"), addrs("192.168.0.1"), "192.168.0.1", "invalid IP"},
		{"the second of the primary ones", addrs("203.0.113.1", "192.168.0.2"), addrs("192.168.0.1", "192.168.0.2"), "192.168.0.2", "invalid IP"},
	} {
		n := Node{Primary: tt.primary, Own: tt.own}
		if v4, v6 := n.Source(true), n.Source(false); v4.String() != tt.v4 || v6.String() != tt.v6 {
			t.Errorf("%s: %v and %v, want %s and %s", tt.name, v4, v6, tt.v4, tt.v6)
		}
	}
}

func TestProblemsAreThoseOfAllObjects(t *testing.T) {
	p := func(s string) []Problem { return []Problem{{Object: s, Field: "spec.x", Reason: "is wrong"}} }
	svc := Service{Problems: p("Service a/b")}
	got := Compute(Config{}, svc, []Slice{{Problems: p("EndpointSlice a/b-1")}, {Problems: p("EndpointSlice a/b-2")}}, thisNode).Problems
	want := "[Service a/b: spec.x: is wrong EndpointSlice a/b-1: spec.x: is wrong EndpointSlice a/b-2: spec.x: is wrong]"
	if fmt.Sprint(got) != want {
		t.Errorf("problems %v, want %s", got, want)
	}
	if len(svc.Problems) != 1 {
		t.Error("the Service was changed")
	}
}

func TestNames(t *testing.T) {
	a, b, c := Name{"a", "z"}, Name{"b", "a"}, Name{"b", "b"}
	if a.Compare(b) >= 0 || b.Compare(c) >= 0 || c.Compare(c) != 0 {
		t.Error("names are not ordered by namespace, then name")
	}
	if a.String() != "a/z" {
		t.Errorf("%v, want a/z", a)
	}
}

func BenchmarkCompute(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("%d endpoints", n), func(b *testing.B) {
			svc := Service{Ports: []Port{{Name: "http", Proto: ipvs.TCP, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10"), ExternalLocal: true}
			var slices []Slice
			for i := range n {
				if i%100 == 0 {
					slices = append(slices, sliceOf())
				}
				s := &slices[len(slices)-1]
				s.Endpoints = append(s.Endpoints, Endpoint{
					Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), Node: []string{"here", "there"}[i%2], Ready: true, Serving: true,
				})
			}
			node := Node{Name: "here", Addresses: addrs("192.168.0.1")}
			b.ReportAllocs()
			for b.Loop() {
				Compute(Config{}, svc, slices, node)
			}
		})
	}
}
