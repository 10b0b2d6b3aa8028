package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each endpoint has a reason, for both policies.
func TestExplainEndpoints(t *testing.T) {
	for _, tt := range []struct {
		name      string
		endpoints []Endpoint
		want      []string // cluster; local
	}{
		{"ready, here and elsewhere", []Endpoint{ep(1, here), ep(2)}, []string{"ready; ready", "ready; not on this node"}},
		{"unready and terminating beside a ready one", []Endpoint{ep(1), ep(2, unready), ep(3, terminating), ep(4, dead)},
			[]string{"ready; not on this node", "not ready; not ready", "terminating; not on this node", "not ready; not ready"}},
		{"all terminating", []Endpoint{ep(1, terminating), ep(2, here, terminating)},
			[]string{"terminating, and none is ready; not on this node", "terminating, and none is ready; terminating, and none is ready"}},
		{"ready and terminating here", []Endpoint{ep(1, here), ep(2, here, terminating)}, []string{"ready; ready", "terminating; terminating"}},
		{"hints", []Endpoint{ep(1, zones("a")), ep(2, here, zones("b"))},
			[]string{"ready; not on this node", "hinted for other nodes or zones; ready"}},
		{"in a service range, in any state", []Endpoint{ep(1, inRange, here), ep(2, inRange, unready), ep(3, here)},
			[]string{"in a service range; in a service range", "in a service range; in a service range", "ready; ready"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := Service{Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10"), ExternalLocal: true}
			var got []string
			for _, e := range Explain(ranged, svc, []Slice{sliceOf(tt.endpoints...)}, thisNode).Endpoints {
				got = append(got, fmt.Sprintf("%v; %v", e.Cluster, e.Local))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The endpoints that serve by their reasons are those that Compute gives to the frontends, in whatever order slices list them. Their
// number may be great: each is not looked for among all others.
func TestReasonsAreThoseOfCompute(t *testing.T) {
	states := []edit{func(*Endpoint) {}, here, unready, terminating, dead, zones("b"), func(e *Endpoint) { here(e); terminating(e) }}
	random := rand.New(rand.NewPCG(1, 2))
	cfg := Config{ServiceCIDRs: prefixes("10.0.0.2/31", "10.0.1.0/24")} // some of the endpoints are there
	svc := Service{Ports: []Port{port80}, ClusterIPs: addrs("10.96.0.10"), LoadBalancerIPs: addrs("198.18.0.10"), ExternalLocal: true}
	for _, n := range []int{1, 2, 3, 7, 100_000} {
		for range max(1, 50/n) {
			var all []Endpoint
			for i := range n {
				e := ep(0, states[random.IntN(len(states))])
				e.Addr = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				all = append(all, e)
			}
			random.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
			in := []Slice{sliceOf(all[:n/2]...), sliceOf(all[n/3:]...)}
			begin := time.Now()
			x := Explain(cfg, svc, in, thisNode)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("%d endpoints are explained in %v", n, took)
			}
			for _, fe := range Compute(cfg, svc, in, thisNode).Frontends {
				if fe.DropExternal { // only sources inside get its endpoints
					continue
				}
				var want []netip.AddrPort
				for _, e := range x.Endpoints {
					if x.Reason(e, fe.Kind).IsServing() {
						want = append(want, e.At)
					}
				}
				if !slices.Equal(fe.Backends, want) {
					t.Errorf("%d endpoints, %v: %d serve, %d by their reasons", n, fe.Kind, len(fe.Backends), len(want))
				}
			}
		}
	}
}

func TestExplainDroppedFrontends(t *testing.T) {
	svc := Service{
		Ports: []Port{{Name: "http", Proto: port80.Proto, Port: 80, NodePort: 30080}}, ClusterIPs: addrs("10.96.0.10"),
		ExternalIPs: addrs("198.18.0.10", "2001:db8::1"), LoadBalancerIPs: addrs("198.18.0.10"),
	}
	var got []string
	for _, d := range Explain(Config{}, svc, nil, Node{Addresses: addrs("192.168.0.1", "fd00::1")}).Dropped {
		got = append(got, fmt.Sprintf("%v %v: %s", d.Kind, d.Address, d.Why))
	}
	want := []string{
		"external IP 198.18.0.10:80/tcp: is already served as the Service's load-balancer IP",
		"external IP [2001:db8::1]:80/tcp: the Service has no cluster IP of the family",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The reason of an endpoint is that of the frontend's policy.
func TestReasonByPolicy(t *testing.T) {
	e := ExplainedEndpoint{Cluster: Serves, Local: NotHere}
	for _, tt := range []struct {
		name               string
		x                  Explanation
		internal, external Reason
	}{
		{"Cluster", Explanation{}, Serves, Serves},
		{"internal Local", Explanation{InternalLocal: true}, NotHere, Serves},
		{"external Local", Explanation{ExternalLocal: true}, Serves, NotHere},
	} {
		if in, out := tt.x.Reason(e, ClusterIP), tt.x.Reason(e, NodePort); in != tt.internal || out != tt.external {
			t.Errorf("%s: %v and %v, want %v and %v", tt.name, in, out, tt.internal, tt.external)
		}
	}
	svc := Service{InternalLocal: true, ExternalLocal: true}
	if x := Explain(Config{}, svc, nil, Node{}); !x.IsLocal(ClusterIP) || !x.IsLocal(LoadBalancerIP) {
		t.Errorf("%+v, want both policies Local", x)
	}
}
