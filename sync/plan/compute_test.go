package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
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
			if diff := cmp.Diff(fmt.Sprint(tt.want), fmt.Sprint(first.SourceRanges)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := strings.ReplaceAll(fmt.Sprint(tt.want), "198.18.0.20", "198.18.0.21")
			if diff := cmp.Diff(want, fmt.Sprint(second.SourceRanges)); diff != "" {
				t.Errorf("second address (-want +got):\n%s", diff)
			}
			if f.Frontends[0].SourceRanges != nil || !f.UsesAddresses {
				t.Errorf("cluster IP from %v, uses addresses %v", f.Frontends[0].SourceRanges, f.UsesAddresses)
			}
		})
	}
}

// Endpoints that may run here may meet themselves, whatever their state. Those that certainly run elsewhere may where they serve and the
// external policy is Local: all else that leads them back to themselves is masqueraded anyway, or their own node's.
func TestHairpins(t *testing.T) {
	nowhere := func(e *Endpoint) { e.Node = "" }
	endpoints := sliceOf(ep(1, here), ep(2), ep(3, here, dead), ep(4, here, unready), ep(5, nowhere), ep(6, unready))
	for local, want := range map[bool][]int{false: {1, 3, 4, 5}, true: {1, 3, 4, 5, 2}} {
		svc := Service{Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10"), ExternalLocal: local}
		var got []netip.AddrPort
		for _, h := range Compute(Config{}, svc, []Slice{endpoints}, thisNode).Hairpins {
			got = append(got, h.At)
		}
		if diff := cmp.Diff(want, numbers(got)); diff != "" {
			t.Errorf("external Local %v (-want +got):\n%s", local, diff)
		}
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
		{name: "in a service range none counts", node: thisNode, slices: []Slice{sliceOf(ep(1, here), ep(2, here, inRange))}, want: 1},
		{name: "of pods without the Service's port none counts", node: thisNode, slices: []Slice{{Endpoints: []Endpoint{ep(1, here)}}, sliceOf(ep(2))}},
		{name: "a node without a name has none", slices: []Slice{sliceOf(ep(1, func(e *Endpoint) { e.Node = "" }))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{HealthCheckNodePort: 31000}
			got := Compute(ranged, svc, tt.slices, tt.node).Health
			if diff := cmp.Diff(&Health{31000, tt.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	f := Compute(Config{}, Service{HealthCheckNodePort: 31000, LoadBalancerIPs: addrs("198.18.0.20", "fd00::20")}, nil, Node{Own: addrs("192.168.0.1")})
	if got, want := fmt.Sprint(f.HealthChecks, f.UsesAddresses), "[192.168.0.1:31000 198.18.0.20:31000 [fd00::20]:31000] true"; got != want {
		t.Errorf("probed at %s, want %s", got, want)
	}
	if h := Compute(Config{}, Service{}, nil, thisNode).Health; h != nil {
		t.Errorf("health %+v of a Service without health-check node port", h)
	}
}

// What a Service needs depends on the node's addresses if it has node ports, and if it has addresses that the node could have itself, or has
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
		{"a node port", inRange, with(func(s *Service) { s.Ports = []Port{port80, {Name: "n", Proto: inet.TCP, Port: 81, NodePort: 30080}} }), true},
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

// An endpoint in a service range is local on every node, by the range's route: IPVS would hand its packets to the node's own sockets, behind
// filter INPUT. Its author is told.
func TestNoEndpointInAServiceRange(t *testing.T) {
	v6 := func(e *Endpoint) { e.Addr = netip.MustParseAddr("fd00:10:96::1") }
	for _, tt := range []struct {
		name      string
		endpoints []Endpoint
		serve     []int
		problems  string
	}{
		{"none in a range", []Endpoint{ep(1), ep(2)}, []int{1, 2}, "[]"},
		{"one beside others", []Endpoint{ep(1, inRange), ep(2)}, []int{2},
			"[EndpointSlice default/web-1: endpoints: 10.96.0.1 is in a service range, which cannot serve]"},
		{"all", []Endpoint{ep(1, inRange, here), ep(2, inRange)}, nil,
			"[EndpointSlice default/web-1: endpoints: 10.96.0.1 is in a service range, which cannot serve" +
				" EndpointSlice default/web-1: endpoints: 10.96.0.2 is in a service range, which cannot serve]"},
		{"not ready", []Endpoint{ep(1, inRange, unready)}, nil,
			"[EndpointSlice default/web-1: endpoints: 10.96.0.1 is in a service range, which cannot serve]"},
		{"of the other family", []Endpoint{ep(1, v6)}, nil,
			"[EndpointSlice default/web-1: endpoints: fd00:10:96::1 is in a service range, which cannot serve]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{
				Ports: []Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10", "fd00:10:96::10"), ExternalLocal: true,
			}
			in := sliceOf(tt.endpoints...)
			in.Name, in.Service = "web-1", Name{"default", "web"}
			f := Compute(ranged, svc, []Slice{in}, Node{Name: "here", Addresses: addrs("192.168.0.1")})
			if got := numbers(f.Frontends[0].Backends); !slices.Equal(got, tt.serve) {
				t.Errorf("%v serve, want %v", got, tt.serve)
			}
			for _, fe := range f.Frontends {
				if len(fe.Draining) > 0 || fe.Rejected != (len(fe.Backends) == 0) || fe.DropExternal && tt.serve == nil {
					t.Errorf("%v %v is treated as if there were endpoints: %+v", fe.Kind, fe.Address, fe)
				}
			}
			if got := fmt.Sprint(f.Problems); got != tt.problems {
				t.Errorf("problems %s, want %s", got, tt.problems)
			}
			for _, h := range f.Hairpins {
				if ranged.routes(h.At.Addr()) {
					t.Errorf("%v is a hairpin", h.At)
				}
			}
		})
	}
}

// A Service may have as many ports as there are numbers, and its slices, too. They are planned where all Services are, so that none may
// hold the others up: ports that are searched for among all others take most of a minute, and so do source ranges that each port copies.
func TestHugeServices(t *testing.T) {
	const limit = 10 * time.Second
	svc := Service{ClusterIPs: addrs("10.96.0.10", "fd00::10")}
	for i := range 10_000 {
		svc.SourceRanges = append(svc.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32))
	}
	few, each := []Slice{sliceOf(ep(1))}, []Slice{}
	few[0].Ports = nil
	for i := range 2 * 65_535 {
		name, proto, n := fmt.Sprintf("port-%d", i), []inet.Protocol{inet.TCP, inet.UDP}[i%2], uint16(i/2+1)
		svc.Ports = append(svc.Ports, Port{Name: name, Proto: proto, Port: n})
		few[0].Ports = append(few[0].Ports, SlicePort{name, proto, n})
		each = append(each, Slice{Ports: []SlicePort{{name, proto, n}}, Endpoints: few[0].Endpoints})
	}
	for _, tt := range []struct {
		name string
		in   []Slice
	}{{"all ports in one slice", few}, {"each port in a slice of its own", each}} {
		begin := time.Now()
		f := Compute(Config{}, svc, tt.in, thisNode)
		served := 0
		for _, fe := range f.Frontends {
			served += len(fe.Backends)
		}
		if took := time.Since(begin); served != len(svc.Ports) || took > limit {
			t.Errorf("%s: %d of %d served, in %v", tt.name, served, len(svc.Ports), took)
		}
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
			svc := Service{Ports: []Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10"), ExternalLocal: true}
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

func TestWords(t *testing.T) {
	if got := fmt.Sprint(ClusterIP, NodePort, ExternalIP, LoadBalancerIP); got != "cluster IP node port external IP load-balancer IP" {
		t.Errorf("kinds are %q", got)
	}
	if got := fmt.Sprint(MasqueradeNone, MasqueradeExternal, MasqueradeAll); got != "keep source masquerade external masquerade" {
		t.Errorf("policies are %q", got)
	}
	if got := (Address{Addr: netip.MustParseAddr("fd00::10"), Port: 53, Protocol: inet.UDP}).String(); got != "[fd00::10]:53/udp" {
		t.Errorf("an address is %q", got)
	}
}
