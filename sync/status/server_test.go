package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A fake is a loop and a meter with the given Services.
type fake struct {
	names    []plan.Name
	services map[plan.Name]loop.Inspection
	err      error
	readings int    // of totals; each finds 70 bytes more
	still    string // why counters stand still
}

func (f *fake) Names(context.Context) ([]plan.Name, error) {
	return append([]plan.Name{}, f.names...), f.err
}

func (f *fake) Inspect(_ context.Context, name plan.Name) (loop.Inspection, error) {
	in, ok := f.services[name]
	if !ok {
		return in, loop.ErrUnknown
	}
	return in, nil
}

func (f *fake) Owner(_ context.Context, a plan.Address) (plan.Name, bool, error) {
	for _, name := range f.names {
		for _, fe := range f.services[name].Frontends {
			if fe.Address == a {
				return fe.Owner, true, nil
			}
		}
	}
	return plan.Name{}, false, nil
}

func (f *fake) Explain(_ context.Context, to plan.Address, from netip.Addr) ([]loop.Verdict, error) {
	return []loop.Verdict{{Origin: loop.FromPod, Outcome: loop.Delivered, Endpoints: []netip.AddrPort{podAt, farAt}, Share: "1/2", Hairpin: true}}, nil
}

func (f *fake) Overview(context.Context) (loop.Overview, error) {
	began := time.Unix(60, 0)
	synced := loop.Sync{Began: began, Took: 20 * time.Millisecond, Services: 1, Times: 1}
	failed := loop.Sync{Began: began, Took: time.Second, Err: errors.New("refused"), Times: 3}
	return loop.Overview{Recent: []loop.Sync{synced, failed}, Notable: []loop.Sync{failed}, Waiting: 1, Report: loop.Report{
		Layers:  []loop.LayerState{{Name: "reals", Known: 5, Pending: 1, Failing: 1, Err: errors.New("add X: refused")}},
		Changes: []loop.ExternalChange{{Component: "sets", Found: 2, Repaired: 1, Last: began}},
	}}, f.err
}

func (f *fake) Loads(context.Context, *plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
	return map[netip.AddrPort]loop.Load{podAt: {Weight: 1, Active: 2, Counters: loop.Counters{InBytes: 7}}}, nil
}

func (f *fake) AllLoads(context.Context) (func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error), error) {
	return func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
		return map[netip.AddrPort]loop.Load{podAt: {Weight: 1, Active: 2}}, nil
	}, nil
}

func (f *fake) Summary(_ context.Context, quiet time.Duration) (loop.Summary, error) {
	sums := loop.Summary{Sums: []uint32{1, uint32(quiet.Seconds()) | 1}, Services: len(f.names), Conflicts: 1, Totals: loop.Totals{Frontends: 6, Programmed: 5}}
	return sums, f.err
}

func (f *fake) Digests(_ context.Context, groups []int, _ time.Duration) (out []loop.Group, err error) {
	for _, g := range groups {
		out = append(out, loop.Group{Number: g, Services: []loop.Digest{{Service: f.names[g], Digest: 0xab}}})
	}
	return out, f.err
}

func (f *fake) Uncounted(context.Context) string { return f.still }

func (f *fake) Totals(context.Context) (map[plan.Address]loop.Load, error) {
	f.readings++
	return map[plan.Address]loop.Load{web: {Counters: loop.Counters{InBytes: uint64(70 * f.readings)}}, {Addr: web.Addr, Port: 9}: {}}, nil
}

var (
	podAt, farAt = netip.MustParseAddrPort("10.244.1.11:8080"), netip.MustParseAddrPort("10.244.2.11:8080")
	web          = plan.Address{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: inet.TCP}
)

// a Service with a cluster IP and an external IP, and an endpoint on each of two nodes.
func newFake() *fake {
	f := &fake{services: map[plan.Name]loop.Inspection{}}
	for _, name := range []plan.Name{{Namespace: "a", Name: "web"}, {Namespace: "a-b", Name: "web"}, {Namespace: "b", Name: "web"}} {
		f.names = append(f.names, name)
		external := plan.Address{Addr: netip.MustParseAddr("203.0.113.1"), Port: 80, Protocol: inet.TCP}
		backends := []netip.AddrPort{podAt, farAt}
		f.services[name] = loop.Inspection{
			Desired: &plan.Desired{Service: name},
			Frontends: []loop.InspectedFrontend{
				{Frontend: &plan.Frontend{Address: web, Backends: backends}, Owner: name, Programmed: true},
				{Frontend: &plan.Frontend{Address: external, Kind: plan.ExternalIP, Backends: backends[:1]}, Owner: name, Programmed: true},
			},
			Explanation: plan.Explanation{ExternalLocal: true, Endpoints: []plan.ExplainedEndpoint{
				{Protocol: inet.TCP, At: podAt, Node: "n1"},
				{Protocol: inet.TCP, At: farAt, Node: "n2", Local: plan.NotHere},
			}},
		}
	}
	return f
}

func (f *fake) serve(t *testing.T) func(path string) (int, string) {
	t.Helper()
	s := Server{Loop: f, Meter: f, Node: "n1", DrainLimit: time.Minute, Now: func() time.Time { return time.Unix(0, 0) },
		Pods: func(context.Context, plan.Name) map[netip.Addr]string {
			return map[netip.Addr]string{podAt.Addr(): "web-a"}
		}}
	mux := http.NewServeMux()
	s.Register(mux)
	return func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
}

// Pages follow each other in the order of namespaces and names, and hold each Service once.
func TestPages(t *testing.T) {
	get := newFake().serve(t)
	var got []string
	next := ""
	for range 4 {
		code, body := get("/v1alpha1/services?limit=1&continue=" + next)
		var list List[Service]
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK || len(list.Items) != 1 {
			t.Fatalf("%d %s %v", code, body, err)
		}
		got = append(got, list.Items[0].Namespace)
		if next = list.Continue; next == "" {
			break
		}
	}
	if want := "[a a-b b]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// What cannot be answered is a Status with its reason.
func TestErrors(t *testing.T) {
	f := newFake()
	get := f.serve(t)
	f.err = errors.New("the loop has ended")
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{"services", 503, "the loop has ended"},
		{"services?service=none", 404, "no such Service is served"},
		{"overview", 503, "the loop has ended"},
		{"services?limit=0", 400, `limit: "0" is not a positive number`},
		{"services?skip=-1", 400, `skip: "-1" is not a number`},
		{"services?only=Broken", 400, `only: "Broken" is none of [Served Limited`},
		{"services?search=" + strings.Repeat("a", 321), 400, `search: longer than 320 characters`},
		{"services?loads=perhaps", 400, `loads: "perhaps" is neither`},
		{"nodes", 503, "the loop has ended"},
		{"nodes?settled=soon", 400, `settled: "soon" is no duration`},
		{"groups?groups=1,-1", 400, `groups: "-1" is no number`},
		{"groups?groups=1024", 400, `groups: 1024 is not less than 1024`},
		{"explain", 400, "give a Service, or an address"},
		{"explain?to=x", 400, `"x" is not ADDRESS:PORT[/PROTO]`},
		{"explain?to=10.0.0.1:1&from=fe80::1%25eth0", 400, `is not an IP address`},
		{"explain?to=10.0.0.1:1&from=fd00::1", 400, "different families"},
		{"nothing", 404, "404 page not found"},
	} {
		code, body := get("/v1alpha1/" + tt.path)
		if code != tt.code || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.path, code, body, tt.code, tt.want)
		}
	}
}

// nodeItem is the fake's Node, but for its end.
const nodeItem = `{"version":"","mode":"","vipMode":"","started":"0001-01-01T00:00:00Z","ready":false,"services":3,"changed":0,"unserved":0,"conflicts":1,` +
	`"frontends":6,"programmed":5,"endpoints":0,"draining":0,"pending":0,"refused":0,"repaired":0`

// The answers, as machines read them: a change here is one of the API.
func TestAnswers(t *testing.T) {
	get := newFake().serve(t)
	for _, tt := range []struct{ path, want string }{
		{"services?service=web&namespace=a&loads=true", `{"namespace":"a","service":"web","state":"Served","frontends":2,"served":2,"endpoints":2,"ready":2,"draining":0,"active":4,"inactive":0,"connections":0,"inPackets":0,"outPackets":0,"inBytes":14,"outBytes":0}`},
		{"services?namespace=b&loads=true", `{"namespace":"b","service":"web","state":"Served","frontends":2,"served":2,"endpoints":2,"ready":2,"draining":0,"active":4,"inactive":0}`},
		{"endpoints?namespace=a", `{"namespace":"a","service":"web","port":"","address":"10.244.1.11:8080/tcp","node":"n1","state":"Served","reason":"ready"},` +
			`{"namespace":"a","service":"web","port":"","address":"10.244.2.11:8080/tcp","node":"n2","state":"Limited","reason":"cluster IP: ready; external IP: not on this node"}`},
		{"traffic?namespace=a&service=web", `{"namespace":"a","service":"web","frontend":"10.96.0.1:80/tcp","endpoint":"10.244.1.11:8080","pod":"web-a","weight":1,"active":2,"inactive":0,"connections":0,"inPackets":0,"outPackets":0,"inBytes":7,"outBytes":0},` +
			`{"namespace":"a","service":"web","frontend":"203.0.113.1:80/tcp","endpoint":"10.244.1.11:8080","pod":"web-a","weight":1,"active":2,"inactive":0,"connections":0,"inPackets":0,"outPackets":0,"inBytes":7,"outBytes":0}`},
		{"traffic", `{"namespace":"a","service":"web","frontend":"10.96.0.1:80/tcp","active":0,"inactive":0,"connections":0,"inPackets":0,"outPackets":0,"inBytes":70,"outBytes":0}`},
		{"explain?to=203.0.113.1:80&from=10.244.1.11", `{"address":"203.0.113.1:80/tcp","service":"a/web","kind":"external IP","state":"Served","ways":[{"origin":"pod","from":"10.244.1.11","outcome":"delivered",` +
			`"endpoints":[{"address":"10.244.1.11:8080","pod":"web-a","node":"n1","chance":"1/2","source":"masqueraded"},{"address":"10.244.2.11:8080","node":"n2","chance":"1/2","source":"kept"}],"steps":null}],` +
			`"others":[{"address":"10.244.2.11:8080","node":"n2","reason":"not on this node, from outside"}]}`},
		{"drains", ``},
		{"nodes", nodeItem + `}`},
		{"nodes?settled=4s", nodeItem + `,"sums":"AAAAAQAAAAU="}`},
		{"overview", nodeItem + `,"numbers":{"Served":3},"waiting":1,"drainLimit":"1m0s",` +
			`"layers":[{"name":"reals","present":5,"pending":1,"failing":1,"error":"add X: refused"}],` +
			`"externalChanges":[{"component":"sets","found":2,"repaired":1,"last":"1970-01-01T00:01:00Z"}],` +
			`"recent":[{"began":"1970-01-01T00:01:00Z","seconds":0.02,"services":1,"times":1},{"began":"1970-01-01T00:01:00Z","seconds":1,"services":0,"error":"refused","times":3}],` +
			`"notable":[{"began":"1970-01-01T00:01:00Z","seconds":1,"services":0,"error":"refused","times":3}]}`},
		{"groups?groups=0,1", `{"group":0,"services":[{"namespace":"a","service":"web","digest":"00000000000000ab"}]},` +
			`{"group":1,"services":[{"namespace":"a-b","service":"web","digest":"00000000000000ab"}]}`},
	} {
		kind := map[string]string{"services": "ServiceList", "endpoints": "EndpointList", "traffic": "TrafficList", "explain": "ExplanationList", "drains": "DrainList", "nodes": "NodeList", "groups": "GroupList", "overview": "OverviewList"}
		resource, _, _ := strings.Cut(tt.path, "?")
		total := map[string]string{"services": `,"total":1`, "endpoints": `,"total":1`, "drains": `,"total":3`}[resource]
		want := fmt.Sprintf(`{"kind":%q,"apiVersion":"kube-ipvs/v1alpha1","node":"n1","time":"1970-01-01T00:00:00Z","items":[%s]%s}`, kind[resource], tt.want, total)
		_, got := get("/v1alpha1/" + tt.path)
		if diff := cmp.Diff(want+"\n", got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.path, diff)
		}
	}
}

// names returns the Services of an answer.
func names(t *testing.T, code int, body string) string {
	t.Helper()
	var list List[Name]
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	out := fmt.Sprint(list.Total)
	for _, n := range list.Items {
		out += fmt.Sprintf(" %s/%s", n.Namespace, n.Service)
	}
	return out
}

// Services are found by a part of their name, by an address, and by their state; pages can be asked for by number.
func TestSearch(t *testing.T) {
	f := newFake()
	odd := f.services[plan.Name{Namespace: "b", Name: "web"}]
	own := netip.MustParseAddr("10.96.0.2")
	odd.Frontends = []loop.InspectedFrontend{
		{Frontend: &plan.Frontend{Address: plan.Address{Addr: own, Port: 80, Protocol: inet.TCP}, Rejected: true}, Owner: plan.Name{Namespace: "b", Name: "web"}, Programmed: true},
		{Frontend: &plan.Frontend{Address: web}, Owner: plan.Name{Namespace: "a", Name: "web"}},
	}
	odd.Explanation.Endpoints = nil
	odd.Frontends[0].Drains = []loop.Drain{{At: podAt}}
	f.services[plan.Name{Namespace: "b", Name: "web"}] = odd
	get := f.serve(t)
	for _, tt := range []struct{ query, want string }{
		{"", "3 a/web a-b/web b/web"},
		{"search=WEB", "3 a/web a-b/web b/web"},
		{"search=a/w", "1 a/web"},
		{"search=%20b/w%20", "2 a-b/web b/web"},
		{"search=nothing", "0"},
		{"search=10.96.0.2", "1 b/web"},
		{"search=10.96.0.2:80/tcp", "1 b/web"},
		{"search=10.244.2.11", "2 a/web a-b/web"},
		{"search=10.244.2.11&namespace=a", "1 a/web"},
		{"search=192.0.2.1", "0"},
		{"search=fe80::1%25eth0", "0"},
		{"only=Served", "2 a/web a-b/web"},
		{"only=Limited", "1 b/web"},
		{"only=Troubled", "1 b/web"},
		{"only=Troubled&search=a", "0"},
		{"only=Unserved", "1 b/web"},
		{"only=Draining", "1 b/web"},
		{"only=Pending", "0"},
		{"limit=1&skip=1", "3 a-b/web"},
		{"limit=2&skip=2", "3 b/web"},
		{"skip=7", "3"},
		{"continue=a/web", "3 a-b/web b/web"},
		{"continue=a/was-removed&limit=1", "3 a/web"},
	} {
		code, body := get("/v1alpha1/services?" + tt.query)
		if got := names(t, code, body); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.query, got, tt.want)
		}
	}
	code, body := get("/v1alpha1/frontends?only=Unserved")
	if got := names(t, code, body); got != "1 b/web" || !strings.Contains(body, `"owner":"a/web"`) {
		t.Errorf("frontends that are not served: %s %s", got, body)
	}
	if _, body := get("/v1alpha1/overview"); !strings.Contains(body, `"numbers":{"Draining":1,"Limited":1,"Served":2,"Troubled":1,"Unserved":1}`) {
		t.Errorf("node: %s", body)
	}
}

// The items of one Service have pages, too: it may have thousands.
func TestPagesOfOne(t *testing.T) {
	get := newFake().serve(t)
	for _, tt := range []struct{ query, want, next string }{
		{"", "2 a/web a/web", ""},
		{"&limit=1", "2 a/web", "1"},
		{"&limit=1&continue=1", "2 a/web", ""},
		{"&limit=1&skip=1", "2 a/web", ""},
		{"&continue=9", "2", ""},
		{"&continue=-1", "2 a/web a/web", ""},
		{"&continue=9223372036854775807&skip=1", "2", ""},
		{"&continue=99999999999999999999&skip=1", "2", ""},
	} {
		for _, resource := range []string{"frontends", "endpoints"} {
			code, body := get("/v1alpha1/" + resource + "?namespace=a&service=web" + tt.query)
			var list List[Name]
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			if got := names(t, code, body); got != tt.want || list.Continue != tt.next {
				t.Errorf("%s%s: %s, then %q; want %s, %q", resource, tt.query, got, list.Continue, tt.want, tt.next)
			}
		}
	}
}

// Counters are in short pages, and in no others: they cost a request to the kernel for each frontend.
func TestCountersOfPages(t *testing.T) {
	get := newFake().serve(t)
	for _, tt := range []struct {
		limit int
		want  bool
	}{{1, true}, {MaxDetailed, true}, {MaxDetailed + 1, false}, {MaxLimit, false}} {
		_, body := get(fmt.Sprintf("/v1alpha1/services?loads=true&limit=%d", tt.limit))
		if got := strings.Contains(body, `"inBytes":14`); got != tt.want || !strings.Contains(body, `"active":4`) {
			t.Errorf("limit %d: %s", tt.limit, body)
		}
	}
}

// A frontend's state has a reason whenever it is not served.
func TestStates(t *testing.T) {
	me, other := plan.Name{Namespace: "a", Name: "me"}, plan.Name{Namespace: "a", Name: "other"}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		name string
		fe   loop.InspectedFrontend
		want State
	}{
		{"on", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Programmed: true}, Served},
		{"ranged", loop.InspectedFrontend{Frontend: &plan.Frontend{Restricted: true, SourceRanges: ranges}, Owner: me, Programmed: true}, Served},
		{"of another Service", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: other, Programmed: true}, NotServed},
		{"of another program", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Status: loop.Status{Refused: errors.New("foreign")}}, NotServed},
		{"a family that does not work", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Status: loop.Status{Family: "IPv6 does not work"}}, NotServed},
		{"a family that the node lacks", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Programmed: true, Status: loop.Status{Lacks: "no IPv6"}}, NotServed},
		{"not yet", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me}, Pending},
		{"an endpoint is refused", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Status: loop.Status{Limited: "refused"}}, Limited},
		{"without endpoints", loop.InspectedFrontend{Frontend: &plan.Frontend{Rejected: true}, Owner: me, Programmed: true}, Rejecting},
		{"internal Local without one here", loop.InspectedFrontend{Frontend: &plan.Frontend{Restricted: true}, Owner: me, Programmed: true}, Dropping},
		{"external Local without one here", loop.InspectedFrontend{Frontend: &plan.Frontend{DropExternal: true}, Owner: me, Programmed: true}, Limited},
		{"its alias is taken", loop.InspectedFrontend{Frontend: &plan.Frontend{}, Owner: me, Programmed: true, Status: loop.Status{Limited: "taken"}}, Limited},
	} {
		v := view{name: me}
		state, reason := v.state(&tt.fe)
		if state != tt.want || (reason == "") != (state == Served) {
			t.Errorf("%s: %s %q, want %s", tt.name, state, reason, tt.want)
		}
	}
}

// The reason of a conflict is the rule by which the owner has the address, as in the Service's Event.
func TestReasonOfAConflict(t *testing.T) {
	me, other := plan.Name{Namespace: "a", Name: "me"}, plan.Name{Namespace: "a", Name: "other"}
	for _, tt := range []struct {
		owners, kind plan.Kind
		want         string
	}{
		{plan.ExternalIP, plan.ExternalIP, "is served for the older Service a/other"},
		{plan.ClusterIP, plan.ExternalIP, "is served for Service a/other, whose cluster IP it is"},
		{plan.NodePort, plan.LoadBalancerIP, "is served for Service a/other, whose node port it is"},
		{plan.LoadBalancerIP, plan.ExternalIP, "is served for Service a/other, whose load-balancer IP it is"},
	} {
		v := view{name: me}
		fe := loop.InspectedFrontend{Frontend: &plan.Frontend{Kind: tt.kind}, Owner: other, OwnerKind: tt.owners, Programmed: true}
		if state, reason := v.state(&fe); state != NotServed || reason != tt.want {
			t.Errorf("%v of one that has it as %v: %s %q, want %q", tt.kind, tt.owners, state, reason, tt.want)
		}
	}
}

// Before the loop is there, the node alone is answered.
func TestBeforeTheLoop(t *testing.T) {
	begun := false
	s := Server{Begun: func() bool { return begun }, State: func() Node { return Node{Version: "v1", Reason: "waits"} }}
	mux := http.NewServeMux()
	s.Register(mux)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := get("/v1alpha1/nodes"); code != http.StatusOK || !strings.Contains(body, `"version":"v1"`) || !strings.Contains(body, `"reason":"waits"`) {
		t.Errorf("nodes: %d %s", code, body)
	}
	if code, body := get("/v1alpha1/services"); code != http.StatusServiceUnavailable || !strings.Contains(body, "has not begun") {
		t.Errorf("services: %d %s", code, body)
	}
	s.Loop, begun = newFake(), true
	if code, _ := get("/v1alpha1/services"); code != http.StatusOK {
		t.Errorf("services of a loop: %d", code)
	}
}

// A stuck is a loop that does not answer.
type stuck struct{ *fake }

func (stuck) Summary(ctx context.Context, _ time.Duration) (loop.Summary, error) {
	<-ctx.Done()
	return loop.Summary{}, context.Cause(ctx)
}

// A node whose loop does not answer is not ready, and says so to whoever asks all nodes before they give up (10 s).
func TestNodeWithAStuckLoop(t *testing.T) {
	for _, tt := range []struct {
		name string
		node Node
		want string
	}{
		{"the program knows no reason", Node{Version: "v1", Ready: true}, "the loop has not answered for 5s: it is in a long sync, or stuck"},
		{"it knows one", Node{Version: "v1", Reason: "the loop has been stuck for 5m0s"}, "the loop has been stuck for 5m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, mux, w := Server{Loop: stuck{newFake()}, State: func() Node { return tt.node }}, http.NewServeMux(), httptest.NewRecorder()
				s.Register(mux)
				begin := time.Now()
				mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1alpha1/nodes", nil))
				var got List[Node]
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || len(got.Items) != 1 || time.Since(begin) >= 10*time.Second {
					t.Fatalf("after %v: %d %s", time.Since(begin), w.Code, w.Body)
				}
				if diff := cmp.Diff(Node{Version: "v1", Reason: tt.want}, got.Items[0]); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Sums survive their way through text; text that is none is an error. docs/cluster.md has their size.
func TestSums(t *testing.T) {
	want := Sums{0, 1, 1 << 31}
	text, err := json.Marshal(Node{Sums: want})
	var got Node
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if long, _ := json.Marshal(Node{Sums: make(Sums, loop.Groups)}); len(long) > 6000 {
		t.Errorf("the answer of a node is %d bytes", len(long))
	}
	if diff := cmp.Diff(want, got.Sums); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, wrong := range []string{"?", "AA=="} {
		if err := new(Sums).UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q is read as sums", wrong)
		}
	}
}
