package kernel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/conntrack"
)

// flowTable is a table of tracked flows that a test can fill and look into.
type flowTable interface {
	conntrack.Kernel
	add(*testing.T, ...conntrack.Flow)
	list(*testing.T) []conntrack.Flow
}

func udpFlow(client, frontend, endpoint string) conntrack.Flow {
	at := netip.MustParseAddrPort
	return conntrack.Flow{Proto: inet.UDP, Client: at(client), Frontend: at(frontend), Endpoint: at(endpoint)}
}

func udpFrontend(at string, keep ...string) conntrack.Frontend {
	f := conntrack.Frontend{Proto: inet.UDP, At: netip.MustParseAddrPort(at), Keep: make(map[netip.AddrPort]struct{})}
	for _, k := range keep {
		f.Keep[netip.MustParseAddrPort(k)] = struct{}{}
	}
	return f
}

// flows are what every situation begins with.
var flows = []conntrack.Flow{
	udpFlow("10.0.0.1:4000", "10.96.0.10:53", "10.244.0.2:53"),
	udpFlow("10.0.0.1:4001", "10.96.0.10:53", "10.244.0.3:53"),
	udpFlow("10.0.0.1:4002", "10.96.0.10:5353", "10.244.0.3:53"),
	udpFlow("10.0.0.1:4003", "10.96.0.11:53", "10.244.0.3:53"),
	udpFlow("10.0.0.1:4004", "10.96.0.12:53", "10.96.0.12:53"),
	udpFlow("[fd02::1]:4000", "[fd00::a]:53", "[fd01::2]:53"),
	udpFlow("[fd02::1]:4001", "[fd00::a]:53", "[fd01::3]:53"),
	udpFlow("[fd02::1]:4002", "[fd00::a]:5353", "[fd01::3]:53"),
	udpFlow("[fd02::1]:4003", "[fd00::b]:53", "[fd01::3]:53"),
}

// conformsConntrack deletes from the same flows for every situation; gone are the flows that must go, by their number.
func conformsConntrack(t *testing.T, open func(*testing.T) flowTable) {
	tests := []struct {
		name string
		list []conntrack.Frontend
		gone []int
	}{
		{name: "nothing"},
		{name: "all endpoints kept", list: []conntrack.Frontend{udpFrontend("10.96.0.10:53", "10.244.0.2:53", "10.244.0.3:53")}},
		{name: "one endpoint gone", list: []conntrack.Frontend{udpFrontend("10.96.0.10:53", "10.244.0.2:53")}, gone: []int{1}},
		{name: "one endpoint gone, IPv6", list: []conntrack.Frontend{udpFrontend("[fd00::a]:53", "[fd01::2]:53")}, gone: []int{6}},
		{name: "all endpoints gone", list: []conntrack.Frontend{udpFrontend("10.96.0.10:53")}, gone: []int{0, 1}},
		{name: "all endpoints gone, IPv6", list: []conntrack.Frontend{udpFrontend("[fd00::a]:53")}, gone: []int{5, 6}},
		{name: "an endpoint at another port", list: []conntrack.Frontend{udpFrontend("10.96.0.10:53", "10.244.0.2:54", "10.244.0.3:53")}, gone: []int{0}},
		{name: "a flow that nothing translated", list: []conntrack.Frontend{udpFrontend("10.96.0.12:53", "10.244.0.2:53")}, gone: []int{4}},
		{name: "another protocol", list: []conntrack.Frontend{{Proto: inet.TCP, At: netip.MustParseAddrPort("10.96.0.10:53")}}},
		{
			name: "several frontends of both families",
			list: []conntrack.Frontend{udpFrontend("10.96.0.10:5353"), udpFrontend("[fd00::b]:53"), udpFrontend("10.96.0.11:53", "10.244.0.3:53")},
			gone: []int{2, 8},
		},
		{name: "many frontends", list: manyFrontends(), gone: []int{0, 1, 6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := open(t)
			k.add(t, flows...)
			n, err := k.Delete(t.Context(), tt.list)
			if n != len(tt.gone) || err != nil {
				t.Errorf("Delete: %d, %v; want %d, nil", n, err, len(tt.gone))
			}
			var want []conntrack.Flow
			for i, f := range flows {
				if !slices.Contains(tt.gone, i) {
					want = append(want, f)
				}
			}
			if diff := cmp.Diff(lines(want), lines(k.list(t))); diff != "" {
				t.Errorf("flows left (-want +got):\n%s", diff)
			}
		})
	}
}

// manyFrontends are so many that they are not asked for one by one.
func manyFrontends() (list []conntrack.Frontend) {
	for i := range 40 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 97, 0, byte(i)}), 53)
		list = append(list, conntrack.Frontend{Proto: inet.UDP, At: at})
		at = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 0x97, 15: byte(i)}), 53)
		list = append(list, conntrack.Frontend{Proto: inet.UDP, At: at})
	}
	return append(list, udpFrontend("10.96.0.10:53"), udpFrontend("[fd00::a]:53", "[fd01::2]:53"))
}

func lines(list []conntrack.Flow) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.String())
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

type fakeFlows struct{ conntrack.Fake }

func (f *fakeFlows) add(_ *testing.T, flows ...conntrack.Flow) { f.Add(flows...) }
func (f *fakeFlows) list(*testing.T) []conntrack.Flow          { return f.Flows() }

func TestFakeConntrack(t *testing.T) {
	conformsConntrack(t, func(*testing.T) flowTable { return new(fakeFlows) })
}
