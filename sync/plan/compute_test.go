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
		fmt.Fprintf(&b, "%v %v %v: %v; to %v", fe.Kind, fe.Key.Proto, fe.Key.AddrPort(), fe.Treatment, numbers(fe.Reals))
		if fe.Inside != nil {
			fmt.Fprintf(&b, ", inside %v", numbers(fe.Inside.Reals))
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
	lines := func(cluster, external, nodePort string) string {
		return fmt.Sprintf(kinds, cluster, external, external, nodePort)
	}
	tests := []struct {
		name               string
		internal, external bool // Local
		masqueradeAll      bool
		endpoints          []Endpoint
		want               string
	}{
		{name: "Cluster, endpoints here and elsewhere", endpoints: both,
			want: lines("divert, masquerade outside; to [1 2]", "divert, masquerade; to [1 2]", "masquerade; to [1 2]")},
		{name: "Cluster, none", want: lines("refuse; to []", "refuse; to []", "masquerade; to []")},
		{name: "Cluster, masquerade all", endpoints: both, masqueradeAll: true,
			want: lines("divert, masquerade; to [1 2]", "divert, masquerade; to [1 2]", "masquerade; to [1 2]")},
		{name: "internal Local, here and elsewhere", internal: true, endpoints: both,
			want: lines("divert, masquerade outside; to [1]", "divert, masquerade; to [1 2]", "masquerade; to [1 2]")},
		{name: "internal Local, elsewhere", internal: true, endpoints: remote,
			want: lines("divert, masquerade outside; to []; from []", "divert, masquerade; to [2]", "masquerade; to [2]")},
		{name: "internal Local, elsewhere, masquerade all", internal: true, endpoints: remote, masqueradeAll: true,
			want: lines("divert, masquerade; to []; from []", "divert, masquerade; to [2]", "masquerade; to [2]")},
		{name: "internal Local, none", internal: true,
			want: lines("refuse; to []", "refuse; to []", "masquerade; to []")},
		{name: "external Local, here and elsewhere", external: true, endpoints: both,
			want: lines("divert, masquerade outside; to [1 2]", "divert, keep source; to [1], inside [1 2]", "keep source; to [1], inside [1 2]")},
		{name: "external Local, here", external: true, endpoints: local,
			want: lines("divert, masquerade outside; to [1]", "divert, keep source; to [1]", "keep source; to [1]")},
		{name: "external Local, elsewhere", external: true, endpoints: remote,
			want: lines("divert, masquerade outside; to [2]", "divert, drop outside; to [2]", "drop outside; to [2]")},
		{name: "external Local, none", external: true,
			want: lines("refuse; to []", "refuse; to []", "keep source; to []")},
		{name: "both Local, here and elsewhere", internal: true, external: true, endpoints: both,
			want: lines("divert, masquerade outside; to [1]", "divert, keep source; to [1], inside [1 2]", "keep source; to [1], inside [1 2]")},
		{name: "both Local, elsewhere", internal: true, external: true, endpoints: remote,
			want: lines("divert, masquerade outside; to []; from []", "divert, drop outside; to [2]", "drop outside; to [2]")},
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
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\n"},
		{name: "a node port without node addresses", svc: func(s *Service) { s.Ports[0].NodePort = 30080 },
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\n"},
		{name: "dual stack, IPv6 first", svc: func(s *Service) { s.ClusterIPs = addrs("fd00::10", "10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\ncluster IP tcp [fd00::10]:80: divert, masquerade outside; to [6]\n"},
		{name: "an external IP that is listed twice", svc: func(s *Service) { s.ExternalIPs = addrs("198.18.0.10", "198.18.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\nexternal IP tcp 198.18.0.10:80: divert, masquerade; to [1]\n"},
		{name: "a load-balancer IP that is also an external one keeps its ranges",
			svc: func(s *Service) {
				s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges = addrs("198.18.0.10"), addrs("198.18.0.10"), prefixes("203.0.113.0/24", "2001:db8::/32")
			},
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\nload-balancer IP tcp 198.18.0.10:80: divert, masquerade; to [1]; from [203.0.113.0/24]\n"},
		{name: "a cluster IP that is also an external one", svc: func(s *Service) { s.ExternalIPs = addrs("10.96.0.10") },
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\n"},
		{name: "an external IP of this node at the number of the node port", node: Node{Addresses: addrs("192.168.0.1")},
			svc: func(s *Service) {
				s.Ports[0].Port, s.Ports[0].NodePort, s.ExternalIPs = 30080, 30080, addrs("192.168.0.1")
			},
			want: "cluster IP tcp 10.96.0.10:30080: divert, masquerade outside; to [1]\nexternal IP tcp 192.168.0.1:30080: divert, masquerade; to [1]\n"},
		{name: "one number in three protocols",
			svc: func(s *Service) {
				s.Ports = []Port{port80, {Name: "u", Proto: ipvs.UDP, Port: 80}, {Name: "s", Proto: ipvs.SCTP, Port: 80}}
			},
			want: "cluster IP tcp 10.96.0.10:80: divert, masquerade outside; to [1]\ncluster IP udp 10.96.0.10:80: refuse; to []\ncluster IP sctp 10.96.0.10:80: refuse; to []\n"},
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
	svc := Service{
		Ports:      []Port{{Name: "http", Proto: ipvs.TCP, Port: 80, NodePort: 30080}},
		ClusterIPs: addrs("10.96.0.10"), ExternalIPs: addrs("192.168.0.1"), LoadBalancerIPs: addrs("198.18.0.20"),
	}
	node := Node{Own: addrs("192.168.0.1"), Addresses: addrs("192.168.0.1")}
	const outside = "10.96.0.10:80 [ip route add 10.96.0.10/32 dev kube-ipvs0"
	const lb, external = "198.18.0.20:80 [ip route add 198.18.0.20/32 dev kube-ipvs0 table 7599", "192.168.0.1:80 [ip route add 192.168.0.1/32 dev kube-ipvs0 table 7599]"
	tests := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"no range of cluster IPs known", Config{}, []string{outside + "]", lb + "]", external, "192.168.0.1:30080 []"}},
		{"cluster IPs in a range", Config{ServiceCIDRs: prefixes("fd00::/112", "10.96.0.0/16")}, []string{"10.96.0.10:80 []", lb + "]", external, "192.168.0.1:30080 []"}},
		{"bound, but for what the node has anyway", Config{Bind: true, ServiceCIDRs: prefixes("10.96.0.0/16")},
			[]string{"10.96.0.10:80 [ip address add 10.96.0.10/32 dev kube-ipvs0]", lb + " ip address add 198.18.0.20/32 dev kube-ipvs0]", external, "192.168.0.1:30080 []"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, fe := range Compute(tt.cfg, svc, nil, node).Frontends {
				got = append(got, fmt.Sprintf("%v %v", fe.Key.AddrPort(), ops(fe.VIPs)))
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
			if f.Frontends[0].Ranges != nil || f.UsesAddresses != (tt.ranges != nil) {
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
		// A second list cannot be persistent, and so hashes; without affinity it is as the first.
		if in := f.Frontends[1].Inside; in == nil || in.Server != (ipvs.Server{Scheduler: "mh", Flags: ipvs.Flag1}) {
			t.Errorf("second list with affinity: %+v", in)
		}
		plain := svc
		plain.Affinity = 0
		f = Compute(Config{Scheduler: scheduler}, plain, []Slice{sliceOf(ep(1, here), ep(2))}, Node{Name: "here", Addresses: addrs("192.168.0.1")})
		if in := f.Frontends[1].Inside; in == nil || in.Server != (ipvs.Server{Scheduler: scheduler, Flags: flags}) {
			t.Errorf("second list without affinity: %+v", in)
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

// A fragment depends on the node's addresses if it has node ports, or in bind mode, where those are not bound.
func TestUsesAddresses(t *testing.T) {
	plain, nodePort := []Port{port80}, []Port{port80, {Name: "n", Proto: ipvs.TCP, Port: 81, NodePort: 30080}}
	for _, tt := range []struct {
		ports []Port
		bind  bool
		want  bool
	}{{plain, false, false}, {nodePort, false, true}, {plain, true, true}, {nil, true, false}} {
		f := Compute(Config{Bind: tt.bind}, Service{Ports: tt.ports, ClusterIPs: addrs("10.96.0.10")}, nil, thisNode)
		if f.UsesAddresses != tt.want {
			t.Errorf("%d ports, bind %v: UsesAddresses = %v, want %v", len(tt.ports), tt.bind, f.UsesAddresses, tt.want)
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
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	keys := []InsideKey{{a, ipvs.TCP, 80, v4}, {a, ipvs.TCP, 80, v6}, {a, ipvs.TCP, 81, v4}, {a, ipvs.UDP, 1, v4}, {b, ipvs.TCP, 1, v4}}
	for i := range keys[1:] {
		if keys[i].Compare(keys[i+1]) >= 0 {
			t.Errorf("%v is not before %v", keys[i], keys[i+1])
		}
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
