package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A crowded is a loop with one Service of many ports, each with many endpoints and three frontends.
type crowded struct{ *fake }

var crowd = plan.Name{Namespace: "shop", Name: "crowd"}

func newCrowded(ports, endpoints int) crowded {
	kinds := []plan.Kind{plan.ClusterIP, plan.LoadBalancerIP, plan.ExternalIP}
	in := loop.Inspection{Desired: &plan.Desired{Service: crowd}, Explanation: plan.Explanation{ExternalLocal: true}}
	for p := range ports {
		name := fmt.Sprintf("p%d", p)
		var all []netip.AddrPort
		for e := range endpoints {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(e >> 8), byte(e)}), uint16(1+p))
			all = append(all, at)
			in.Explanation.Endpoints = append(in.Explanation.Endpoints, plan.ExplainedEndpoint{
				PortName: name, Protocol: inet.TCP, At: at, Node: fmt.Sprintf("n%d", e%7), Cluster: plan.Reason(e % 6), Local: plan.Reason(e / 6 % 6),
			})
		}
		for i, k := range kinds {
			a := plan.Address{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + i)}), Port: uint16(1 + p), Protocol: inet.TCP}
			in.Frontends = append(in.Frontends, loop.InspectedFrontend{Owner: crowd, Programmed: p != 1, Frontend: &plan.Frontend{
				Address: a, PortName: name, Kind: k, Backends: all,
			}})
		}
	}
	return crowded{&fake{names: []plan.Name{crowd}, services: map[plan.Name]loop.Inspection{crowd: in}}}
}

func (c crowded) Explain(_ context.Context, to plan.Address, _ netip.Addr) (out []loop.Verdict, err error) {
	for _, fe := range c.services[crowd].Frontends {
		if fe.Address == to {
			out = append(out, loop.Verdict{Outcome: loop.Delivered, Endpoints: fe.Backends}, loop.Verdict{Origin: loop.FromOutside, Endpoints: fe.Backends})
		}
	}
	return out, nil
}

// ask returns the answer to a question, and how long it took.
func ask[T any](t *testing.T, c crowded, path string) (list List[T], took time.Duration) {
	t.Helper()
	s := Server{Loop: c, Meter: c}
	mux := http.NewServeMux()
	s.Register(mux)
	w := httptest.NewRecorder()
	begin := time.Now()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1alpha1/"+path, nil))
	took = time.Since(begin)
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %v", path, w.Code, err)
	}
	return list, took
}

// Each endpoint has the state that its reasons for each frontend of its port and family make, and the Service's line counts them.
func TestServes(t *testing.T) {
	c := newCrowded(3, 80)
	in := c.services[crowd]
	refused := fmt.Errorf("foreign")
	for i := range in.Frontends[6:] { // of the last port
		in.Frontends[6+i].Status.Refused = refused
	}
	in.Explanation.Endpoints = append(in.Explanation.Endpoints,
		plan.ExplainedEndpoint{PortName: "p0", Protocol: inet.UDP, At: podAt}, plan.ExplainedEndpoint{PortName: "p0", Protocol: inet.TCP, At: netip.MustParseAddrPort("[fd00::1]:1")})
	c.services[crowd] = in
	list, _ := ask[Endpoint](t, c, "endpoints?namespace=shop&service=crowd")
	ready := 0
	for i, e := range in.Explanation.Endpoints {
		cluster, local := e.Cluster, e.Local
		text, state := fmt.Sprintf("cluster IP: %v; load-balancer IP: %v; external IP: %v", cluster, local, local), Limited
		if cluster == local {
			text = cluster.String()
		}
		switch {
		case e.Protocol == inet.UDP || e.At.Addr().Is6():
			state, text = NotServed, "the Service has no frontend of this port and family"
		case e.PortName == "p2":
			state, text = NotServed, text+", but no frontend is served"
		case cluster.IsServing() && local.IsServing():
			state = Served
		case !cluster.IsServing() && !local.IsServing():
			state = NotServed
		}
		if state != NotServed {
			ready++
		}
		if got := list.Items[i]; got.State != state || got.Reason != text {
			t.Errorf("%s %v: %s %q, want %s %q", e.PortName, e.At, got.State, got.Reason, state, text)
		}
	}
	line, _ := ask[Service](t, c, "services?namespace=shop&service=crowd")
	if got := line.Items[0]; got.Endpoints != len(in.Explanation.Endpoints) || got.Ready != ready {
		t.Errorf("%d/%d, want %d/%d", got.Ready, got.Endpoints, ready, len(in.Explanation.Endpoints))
	}
}

// A line of get and the census count endpoints: they make nothing of each, and look at no frontend for it.
func TestManyEndpointsAreCounted(t *testing.T) {
	for name, do := range map[string]func(view){
		"services": func(v view) { v.service() },
		"census":   func(v view) { v.counted() },
	} {
		allocations := map[int]float64{}
		for _, endpoints := range []int{36, 3600} {
			s := Server{Loop: newCrowded(20, endpoints)}
			v, err := s.view(t.Context(), crowd, false)
			if err != nil {
				t.Fatal(err)
			}
			allocations[endpoints] = testing.AllocsPerRun(3, func() { do(v) })
		}
		if few, many := allocations[36], allocations[3600]; many > few+500 { // the census has a set of addresses
			t.Errorf("%s: %v allocations for 720 endpoints, %v for 72,000", name, few, many)
		}
	}
}

// A tenant's Service of a thousand ports and a thousand pods, or of few ports and many pods, is answered in time: no endpoint
// is looked for among all others or all frontends.
func TestManyPortsAndEndpoints(t *testing.T) {
	const most = 10 * time.Second // usually less than one
	line, took := ask[Service](t, newCrowded(1000, 1000), "services")
	if line.Items[0].Endpoints != 1e6 || took > most {
		t.Errorf("a line: %d endpoints after %v", line.Items[0].Endpoints, took)
	}
	list, took := ask[Explanation](t, newCrowded(10, 5000), "explain?namespace=shop&service=crowd")
	if took > most || len(list.Items) != 30 {
		t.Fatalf("%d explanations after %v", len(list.Items), took)
	}
	for _, x := range list.Items {
		if len(x.Ways) != 2 || len(x.Ways[1].Endpoints) != 5000 || len(x.Others) == 0 {
			t.Fatalf("%s: %d ways, %d others", x.Address, len(x.Ways), len(x.Others))
		}
		for i, stop := range x.Ways[1].Endpoints {
			if want := fmt.Sprintf("n%d", i%7); stop.Node != want {
				t.Fatalf("%s: %s is on %q, want %s", x.Address, stop.Address, stop.Node, want)
			}
		}
		_, port, _ := strings.Cut(strings.TrimSuffix(x.Address, "/tcp"), ":")
		if idle := x.Others[0].Address; !strings.HasSuffix(idle, ":"+port) {
			t.Fatalf("%s: %s is of another port", x.Address, idle)
		}
	}
}
