package plan

import (
	"net/netip"
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
)

// The short hand of these tests: endpoints e1 to e9 at 10.244.0.1 to 10.244.0.9, ready unless said otherwise.
type edit func(*Endpoint)

func ep(n byte, edits ...edit) Endpoint {
	e := Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 0, n}), Node: "there", Ready: true, Serving: true}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

func here(e *Endpoint)    { e.Node = "here" }
func unready(e *Endpoint) { e.Ready, e.Serving = false, false }

// terminating endpoints still serve.
func terminating(e *Endpoint) { e.Ready, e.Terminating = false, true }

// dead endpoints terminate and serve no more.
func dead(e *Endpoint) { e.Ready, e.Serving, e.Terminating = false, false, true }

// inRange puts an endpoint into a service range of the configuration ranged.
func inRange(e *Endpoint) { e.Addr = netip.AddrFrom4([4]byte{10, 96, 0, e.Addr.As4()[3]}) }

func zones(z ...string) edit { return func(e *Endpoint) { e.ZoneHints = z } }
func nodes(n ...string) edit { return func(e *Endpoint) { e.NodeHints = n } }

var (
	thisNode = Node{Name: "here", Zone: "a"}
	ranged   = Config{ServiceCIDRs: prefixes("10.96.0.0/12", "fd00:10:96::/112")}
	port80   = Port{Name: "http", Proto: inet.TCP, Port: 80}
)

func sliceOf(endpoints ...Endpoint) Slice {
	return Slice{Ports: []SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}, Endpoints: endpoints}
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

// The cases of kube-proxy's TestCategorizeEndpoints. What kube-proxy calls the cluster list are the endpoints of a
// frontend with policy Cluster, and for sources inside of an external one with Local; its local list are those of one
// with Local. A list that kube-proxy leaves nil because no frontend uses it has no frontend here either.
func TestEndpointChoice(t *testing.T) {
	const internalLocal, externalLocal, outside = 1, 2, 4 // outside: the Service has a node port
	type situation struct {
		name      string
		policy    int
		node      *Node
		endpoints []Endpoint

		internal         []int // who serves the cluster IP
		external, inside []int // who serves the node port, for sources outside and inside
		drops            bool  // a frontend without local endpoints drops, as there are some elsewhere
	}
	all := []int{1, 2, 3, 4}
	situations := []situation{
		{name: "hints: all ready endpoints have one, and this zone too",
			endpoints: []Endpoint{ep(1, zones("a")), ep(2, zones("b")), ep(3, zones("c")), ep(4, zones("a"))}, internal: []int{1, 4}},
		{name: "hints and externalTrafficPolicy Local: the local list is not narrowed", policy: externalLocal | outside,
			endpoints: []Endpoint{ep(1, here, zones("c")), ep(2, zones("b")), ep(3, zones("c")), ep(4, zones("a"))},
			internal:  []int{4}, external: []int{1}, inside: []int{4}},
		{name: "hints and internalTrafficPolicy Local: the local list is not narrowed", policy: internalLocal | outside,
			endpoints: []Endpoint{ep(1, here, zones("c")), ep(2, zones("b")), ep(3, zones("c")), ep(4, zones("a"))},
			internal:  []int{1}, external: []int{4}, inside: []int{4}},
		{name: "hints: this node has no labels", node: &Node{Name: "here"},
			endpoints: []Endpoint{ep(1, zones("a")), ep(2, zones("b")), ep(3, zones("c")), ep(4, zones("a"))}, internal: all},
		{name: "hints: this node's zone is empty, and an endpoint is hinted for it", node: &Node{Name: "here", Zone: ""},
			endpoints: []Endpoint{ep(1, zones("")), ep(2, zones("b"))}, internal: []int{1, 2}},
		{name: "hints: no endpoint is hinted for this zone", node: &Node{Name: "here", Zone: "d"},
			endpoints: []Endpoint{ep(1, zones("a")), ep(2, zones("b")), ep(3, zones("c")), ep(4, zones("a"))}, internal: all},
		{name: "hints: an unready endpoint hinted for this zone is left out, and the others are narrowed",
			endpoints: []Endpoint{ep(1, zones("a")), ep(2, zones("b")), ep(3, zones("c")), ep(4, unready, zones("a"))}, internal: []int{1}},
		{name: "hints: the only endpoints hinted for this zone are unready",
			endpoints: []Endpoint{ep(1, unready, zones("a")), ep(2, zones("b")), ep(3, zones("c")), ep(4, unready, zones("a"))}, internal: []int{2, 3}},
		{name: "hints: one ready endpoint has none",
			endpoints: []Endpoint{ep(1, zones("a")), ep(2, zones("b")), ep(3), ep(4, zones("a"))}, internal: all},
		{name: "hints: several zones, and any of them counts",
			endpoints: []Endpoint{ep(1, zones("a", "b", "c")), ep(2, zones("b", "c")), ep(3, zones("b", "d")), ep(4, zones("c", "a"))}, internal: []int{1, 4}},
		{name: "hints: for nodes and zones, those for nodes name others",
			endpoints: []Endpoint{ep(1, zones("a"), nodes("x")), ep(2, zones("b"), nodes("y")), ep(3, zones("a"), nodes("z"))}, internal: []int{1, 3}},
		{name: "hints: for nodes, and one names this node",
			endpoints: []Endpoint{ep(1, zones("a"), nodes("here")), ep(2, zones("a"), nodes("x")), ep(3, zones("a"), nodes("y"))}, internal: []int{1}},
		{name: "hints: one ready endpoint has none of either kind",
			endpoints: []Endpoint{ep(1, zones("a"), nodes("here")), ep(2, zones("a"), nodes("x")), ep(3)}, internal: []int{1, 2, 3}},
		{name: "hints: for nodes on all but one, for zones on all",
			endpoints: []Endpoint{ep(1, zones("a"), nodes("here")), ep(2, zones("a")), ep(3, zones("b"), nodes("x"))}, internal: []int{1, 2}},
		{name: "hints and locality disagree: both lists together are three of four", policy: externalLocal | outside,
			endpoints: []Endpoint{ep(1, here, zones("a")), ep(2, here, zones("b")), ep(3, zones("a")), ep(4, zones("b"))},
			internal:  []int{1, 3}, external: []int{1, 2}, inside: []int{1, 3}},
		{name: "internalTrafficPolicy Local: no endpoints", policy: internalLocal},
		{name: "internalTrafficPolicy Local: all elsewhere", policy: internalLocal, endpoints: []Endpoint{ep(1), ep(2)}, drops: true},
		{name: "internalTrafficPolicy Local: all here", policy: internalLocal, endpoints: []Endpoint{ep(1, here), ep(2, here)}, internal: []int{1, 2}},
		{name: "internalTrafficPolicy Local: some here", policy: internalLocal, endpoints: []Endpoint{ep(1), ep(2, here)}, internal: []int{2}},
		{name: "Cluster: none ready, none terminating", endpoints: []Endpoint{ep(1, unready), ep(2, unready)}},
		{name: "Cluster: some ready", endpoints: []Endpoint{ep(1), ep(2, unready), ep(3, terminating)}, internal: []int{1}},
		{name: "Cluster: all terminating and serving", endpoints: []Endpoint{ep(1, terminating), ep(2, terminating, here)}, internal: []int{1, 2}},
		{name: "internal Local, external Cluster: some here", policy: internalLocal | outside, endpoints: []Endpoint{ep(1), ep(2, here)},
			internal: []int{2}, external: []int{1, 2}, inside: []int{1, 2}},
		{name: "internal Cluster, external Local: some here", policy: externalLocal | outside, endpoints: []Endpoint{ep(1), ep(2, here)},
			internal: []int{1, 2}, external: []int{2}, inside: []int{1, 2}},
		{name: "both Local: some here", policy: internalLocal | externalLocal | outside, endpoints: []Endpoint{ep(1), ep(2, here)},
			internal: []int{2}, external: []int{2}, inside: []int{1, 2}},
		{name: "both Local: all elsewhere", policy: internalLocal | externalLocal | outside, endpoints: []Endpoint{ep(1), ep(2)},
			external: []int{1, 2}, inside: []int{1, 2}, drops: true},
		{name: "both Local: all elsewhere and terminating", policy: internalLocal | externalLocal | outside,
			endpoints: []Endpoint{ep(1, terminating), ep(2, terminating)}, external: []int{1, 2}, inside: []int{1, 2}, drops: true},
		{name: "external Local: ready ones elsewhere, terminating ones here", policy: externalLocal | outside,
			endpoints: []Endpoint{ep(1), ep(2, here, terminating), ep(3, here, dead), ep(4, dead)},
			internal:  []int{1}, external: []int{2}, inside: []int{1}},
		{name: "externalTrafficPolicy Local counts for nothing where nothing is outside", policy: externalLocal,
			endpoints: []Endpoint{ep(1), ep(2, here)}, internal: []int{1, 2}},
		{name: "internal only and Local: endpoints elsewhere are used by nobody", policy: internalLocal,
			endpoints: []Endpoint{ep(1), ep(2, here), ep(3)}, internal: []int{2}},
		{name: "no endpoints", policy: outside},
		{name: "one endpoint, neither ready nor serving nor terminating", endpoints: []Endpoint{ep(1, unready)}},
	}
	if len(situations) != 32 {
		t.Errorf("%d cases, upstream has 32", len(situations))
	}
	for _, tt := range situations {
		t.Run(tt.name, func(t *testing.T) {
			node := thisNode
			if tt.node != nil {
				node = *tt.node
			}
			node.Addresses = []netip.Addr{netip.MustParseAddr("192.168.0.1")}
			svc := Service{
				Ports: []Port{port80}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
				InternalLocal: tt.policy&internalLocal != 0, ExternalLocal: tt.policy&externalLocal != 0,
			}
			if tt.policy&outside != 0 {
				svc.Ports[0].NodePort = 30080
			}
			f := Compute(Config{}, svc, []Slice{sliceOf(tt.endpoints...)}, node)
			var internal, external, inside []int
			drops := false
			for _, fe := range f.Frontends {
				switch fe.Kind {
				case ClusterIP:
					internal = numbers(fe.Backends)
				case NodePort:
					external, inside = numbers(fe.Backends), numbers(fe.Backends)
					if fe.Internal != nil {
						inside = numbers(fe.Internal.Backends)
					}
				}
				drops = drops || fe.Restricted || fe.DropExternal
			}
			got := situation{internal: internal, external: external, inside: inside, drops: drops}
			want := situation{internal: tt.internal, external: tt.external, inside: tt.inside, drops: tt.drops}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(situation{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What becomes of endpoints that are in several slices, and of ports.
func TestCandidates(t *testing.T) {
	other := func(s Slice, ports ...SlicePort) Slice { s.Ports = ports; return s }
	tests := []struct {
		name   string
		slices []Slice
		want   []string
	}{
		{name: "no slices"},
		{name: "one slice, two hosts", slices: []Slice{sliceOf(ep(2), ep(1))}, want: []string{"10.244.0.1:8080", "10.244.0.2:8080"}},
		{name: "two slices", slices: []Slice{sliceOf(ep(1)), sliceOf(ep(2))}, want: []string{"10.244.0.1:8080", "10.244.0.2:8080"}},
		{name: "two slices overlap", slices: []Slice{sliceOf(ep(1), ep(2)), sliceOf(ep(2), ep(3))},
			want: []string{"10.244.0.1:8080", "10.244.0.2:8080", "10.244.0.3:8080"}},
		{name: "a copy that stays counts, whichever comes first", slices: []Slice{sliceOf(ep(1, terminating)), sliceOf(ep(1))}, want: []string{"10.244.0.1:8080"}},
		{name: "a copy that stays counts, the other way round", slices: []Slice{sliceOf(ep(1)), sliceOf(ep(1, terminating))}, want: []string{"10.244.0.1:8080"}},
		{name: "ready if ready in a copy", slices: []Slice{sliceOf(ep(1, unready)), sliceOf(ep(1))}, want: []string{"10.244.0.1:8080"}},
		{name: "unready in all copies", slices: []Slice{sliceOf(ep(1, unready)), sliceOf(ep(1, unready))}},
		{name: "a mix of unready and terminating", slices: []Slice{sliceOf(ep(1, unready), ep(2, terminating), ep(3))}, want: []string{"10.244.0.3:8080"}},
		{name: "an address that is listed twice in one slice", slices: []Slice{sliceOf(ep(1), ep(1))}, want: []string{"10.244.0.1:8080"}},
		{name: "one address at two ports is two endpoints", slices: []Slice{sliceOf(ep(1)), other(sliceOf(ep(1)), SlicePort{"http", inet.TCP, 9090})},
			want: []string{"10.244.0.1:8080", "10.244.0.1:9090"}},
		{name: "two numbers of one port in one slice", slices: []Slice{other(sliceOf(ep(1)), SlicePort{"http", inet.TCP, 8080}, SlicePort{"http", inet.TCP, 9090})},
			want: []string{"10.244.0.1:8080", "10.244.0.1:9090"}},
		{name: "a port of another name", slices: []Slice{other(sliceOf(ep(1)), SlicePort{"https", inet.TCP, 8443})}},
		{name: "a port of another protocol", slices: []Slice{other(sliceOf(ep(1)), SlicePort{"http", inet.UDP, 8080})}},
		{name: "no ports", slices: []Slice{other(sliceOf(ep(1)))}},
		{name: "the other family", slices: []Slice{sliceOf(Endpoint{Addr: netip.MustParseAddr("fd00::1"), Ready: true})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(tt.slices)
			svc := Service{Ports: []Port{port80}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
			f := Compute(Config{}, svc, tt.slices, thisNode)
			var got []string
			for _, at := range f.Frontends[0].Backends {
				got = append(got, at.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || len(tt.slices) != before {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every endpoint that is listed and does not serve a list drains there: it keeps its connections as long as it is listed. One of UDP
// only as long as it serves.
func TestDrainingIsAllThatIsListed(t *testing.T) {
	for proto, want := range map[inet.Protocol][]int{inet.TCP: {2, 3, 4}, inet.UDP: {3}, inet.SCTP: {2, 3, 4}} {
		port := Port{Name: "http", Proto: proto, Port: 80}
		svc := Service{Ports: []Port{port}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
		in := sliceOf(ep(1), ep(2, unready), ep(3, terminating), ep(4, dead))
		in.Ports = []SlicePort{{"http", proto, 8080}}
		f := Compute(Config{}, svc, []Slice{in}, thisNode)
		if diff := cmp.Diff(want, numbers(f.Frontends[0].Draining)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", proto, diff)
		}
	}
}
