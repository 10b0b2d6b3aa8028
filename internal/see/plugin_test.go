package see

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/cli"
	"kube-ipvs/sync/kube/remote"
	"kube-ipvs/sync/status"
)

// A fakeFleet has nodes whose kube-ipvs answers in this process.
type fakeFleet struct {
	nodes   []remote.Node
	answers map[string]http.Handler // by pod; nil: it does not answer
	fail    error
	asked   atomic.Int64 // nodes at this moment
	most    atomic.Int64 // nodes at any moment
}

func (f *fakeFleet) Nodes(context.Context, string) ([]remote.Node, error) {
	return slices.Clone(f.nodes), f.fail
}

func (f *fakeFleet) Node(_ context.Context, name string) (remote.Node, error) {
	for _, n := range f.nodes {
		if n.Name == name && n.Pod != "" {
			return n, f.fail
		}
	}
	return remote.Node{}, fmt.Errorf("node %s has no pod", name)
}

func (f *fakeFleet) Transport(n remote.Node) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		now := f.asked.Add(1)
		defer f.asked.Add(-1)
		for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
		}
		if f.answers[n.Pod] == nil {
			return nil, errors.New("dial tcp 10.0.0.5:10250: connect: no route to host")
		}
		w := httptest.NewRecorder()
		f.answers[n.Pod].ServeHTTP(w, r)
		return w.Result(), nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// run runs a command line of the plugin.
func (f *fakeFleet) run(t *testing.T, line string) (stdout, stderr string, exit int) {
	t.Helper()
	const config = `{"clusters": [{"name": "a", "cluster": {"server": "https://192.0.2.1"}}], "contexts": [{"name": "a", "context": {"cluster": "a"}}], "current-context": "a"}`
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	cmd := pluginCommand("v1.2.3", func(*remote.Flags) (fleet, error) { return f, nil })
	var out, problems bytes.Buffer
	exit = cli.Run(t.Context(), cmd, strings.Fields(line), &out, &problems)
	return out.String(), problems.String(), exit
}

// answering is a kube-ipvs without a loop.
func answering(n status.Node) http.Handler {
	mux := http.NewServeMux()
	s := status.Server{Begun: func() bool { return false }, State: func() status.Node { return n }, Now: func() time.Time { return noon }}
	s.Register(mux)
	return mux
}

// answersNodes answers nodes with sums, and groups as they are given.
func answersNodes(n status.Node, groups ...status.Group) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1alpha1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(status.List[status.Node]{Items: []status.Node{n}})
	})
	mux.HandleFunc("GET /v1alpha1/groups", func(w http.ResponseWriter, _ *http.Request) {
		if groups == nil {
			http.Error(w, "the loop has ended", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(status.List[status.Group]{Items: groups})
	})
	return mux
}

// TestClusterPage holds docs/cluster.md to the output of each command of the plugin in it; -update writes it.
func TestClusterPage(t *testing.T) {
	one, two, three := see(t), see(t), see(t)
	one.connect(t, "10.96.10.1:6711", "10.244.2.11:8080", 1)
	for _, s := range []*seen{one, three} { // the second does not hear of what happens
		s.change(t, "echo.yaml", "[10.244.2.11], nodeName: node2}", "[10.244.2.11], nodeName: node2, conditions: {ready: false}}", "get endpoints svc/echo", "not ready")
		s.put(t, "late.yaml", "")
		s.change(t, "late.yaml", "", late, "get svc/late", "Limited   2/3")
	}
	f := &fakeFleet{
		nodes: []remote.Node{
			{Name: "node1", OS: "linux", Pod: "kube-ipvs-4kd2x"}, {Name: "node2", OS: "linux", Pod: "kube-ipvs-9wqzv"}, {Name: "node3", OS: "linux", Pod: "kube-ipvs-c7hfp"},
			{Name: "node4", OS: "linux", Pod: "kube-ipvs-j2m8n"}, {Name: "node5", OS: "linux", Pod: "kube-ipvs-lx6ts"},
			{Name: "node6", OS: "linux", Pod: "kube-ipvs-x5b9r", Down: "pod kube-ipvs-x5b9r: ImagePullBackOff"}, {Name: "node7", OS: "linux"}, {Name: "win1", OS: "windows"},
		},
		answers: map[string]http.Handler{
			"kube-ipvs-4kd2x": one.mux, "kube-ipvs-9wqzv": two.mux, "kube-ipvs-c7hfp": three.mux, "kube-ipvs-j2m8n": answering(status.Node{
				Version: "v1.2.3", Mode: "ipvs", VIPMode: "divert", Started: noon.Add(-time.Minute), Waits: noon.Add(-time.Minute),
				Reason: "kube-proxy: kube-proxy runs on this node in mode iptables: it answers at 127.0.0.1:10249; kube-ipvs waits for its end and changes nothing",
			}),
		},
	}
	keepPage(t, "../../docs/cluster.md", "kubectl ipvs ", 3, func(command string) string {
		for _, s := range []*seen{one, two, three} {
			s.ticks.Store(0)
		}
		line := command
		if strings.HasPrefix(line, "status") {
			line += " --lag=1ms"
		}
		out, problems, exit := f.run(t, line)
		if problems != "" || (command == "status") != (exit == wrong) {
			t.Errorf("kubectl ipvs %s: exit status %d, %s", line, exit, problems)
		}
		return strings.ReplaceAll(out, "for 1ms", "for 30s")
	})
}

func TestStatusOfNodes(t *testing.T) {
	ready := func(sums ...uint32) status.Node { return status.Node{Version: "v1", Ready: true, Sums: sums} }
	group := status.Group{Group: 0, Services: []status.Digest{{Name: status.Name{Namespace: "shop", Service: "web"}, Digest: "1"}}}
	refused := ready(1)
	refused.Refused = 1
	odd := ready(1)
	odd.Unserved, odd.Conflicts, odd.Problems = 2, 1, []string{"bridge: is odd"}
	for _, tt := range []struct {
		name  string
		nodes []http.Handler // of node0 and so on; nil: no answer
		edit  func(*remote.Node)
		args  string
		exit  int
		want  string // in the output
	}{
		{name: "all is well", nodes: []http.Handler{answersNodes(ready(1)), answersNodes(ready(1))}, want: "2 nodes: 2 Ready.\nNodes of one version agree on all Services that had not changed for 30s"},
		{name: "no node", want: "0 nodes: -."},
		{name: "what Services' authors did is nothing wrong", nodes: []http.Handler{answersNodes(odd)}, want: "bridge: is odd"},
		{name: "one is not ready", nodes: []http.Handler{answersNodes(status.Node{Reason: "the loop is stuck"}), nil}, exit: wrong, want: "the loop is stuck"},
		{name: "the kernel refuses", nodes: []http.Handler{answersNodes(refused)}, exit: wrong, want: "1 Ready"},
		{name: "one does not answer", nodes: []http.Handler{answersNodes(ready(1)), nil}, exit: unknowing, want: "no route to host"},
		{name: "no pod", nodes: []http.Handler{nil}, edit: func(n *remote.Node) { n.Pod = "" }, exit: wrong, want: "NoPod"},
		{name: "a pod that does not run", nodes: []http.Handler{nil}, edit: func(n *remote.Node) { n.Down = "pod a is Pending" }, exit: unknowing, want: "pod a is Pending"},
		{name: "Windows", nodes: []http.Handler{nil}, edit: func(n *remote.Node) { n.OS, n.Pod = "windows", "" }, want: "1 NotLinux"},
		{name: "no answer of ours", nodes: []http.Handler{http.NotFoundHandler()}, exit: unknowing, want: "404 Not Found"},
		{name: "they disagree", nodes: []http.Handler{answersNodes(ready(1), group), answersNodes(ready(3), status.Group{})}, exit: wrong,
			want: "They disagree on Services:\nNAMESPACE   SERVICE   DIFFERENCE   ON NODES   COMPARED WITH\nshop        web       Missing      node1      node0\n"},
		{name: "they agree again when they are asked once more", nodes: []http.Handler{answersNodes(ready(1), group), answersNodes(ready(3), group)}, want: "Nodes of one version agree on all Services"},
		{name: "one does not answer again", nodes: []http.Handler{answersNodes(ready(1), group), answersNodes(ready(3))}, exit: unknowing, want: "Services were not compared on node1: no answer.\n"},
		{name: "the one to compare with does not answer again", nodes: []http.Handler{answersNodes(ready(1)), answersNodes(ready(3), group)}, exit: unknowing, want: "not compared on node1"},
		{name: "one node", nodes: []http.Handler{answersNodes(ready(1)), nil}, args: "node0", want: "1 nodes: 1 Ready.\n"},
		{name: "no such node", nodes: []http.Handler{answersNodes(ready(1)), nil}, args: "node9", exit: unknowing, want: "no node node9"},
		{name: "no such format", args: "-o table", exit: unknowing, want: "--output=table: is none of wide, json, yaml"},
		{name: "no such flag", args: "--speed=11", exit: unknowing, want: "unknown flag: --speed"},
		{name: "none at once", args: "--parallel=0", exit: unknowing, want: "must be more than 0"},
	} {
		f := &fakeFleet{answers: map[string]http.Handler{}}
		for i, handler := range tt.nodes {
			n := remote.Node{Name: fmt.Sprintf("node%d", i), OS: "linux", Pod: fmt.Sprintf("pod%d", i)}
			f.answers[n.Pod] = handler
			if tt.edit != nil {
				tt.edit(&n)
			}
			f.nodes = append(f.nodes, n)
		}
		out, problems, exit := f.run(t, "status "+tt.args)
		if exit != tt.exit || !strings.Contains(out+problems, tt.want) {
			t.Errorf("%s: exit status %d, want %d and %q:\n%s%s", tt.name, exit, tt.exit, tt.want, out, problems)
		}
	}
	f := &fakeFleet{fail: errors.New("list nodes: forbidden")}
	if _, problems, exit := f.run(t, "status"); exit != unknowing || problems != "kubectl ipvs: list nodes: forbidden\n" {
		t.Errorf("nobody may ask: exit status %d, %q", exit, problems)
	}
}

// Five thousand nodes are asked, so many at once, and the one that differs is found.
func TestStatusOfManyNodes(t *testing.T) {
	sums := make(status.Sums, 1024)
	for g := range sums {
		sums[g] = uint32(2*g + 1)
	}
	n := status.Node{Version: "v1", Ready: true, Services: 20000, Sums: sums}
	usual := answersNodes(n, status.Group{Group: 7, Services: []status.Digest{{Name: status.Name{Namespace: "shop", Service: "web"}, Digest: "1"}}})
	n.Sums = slices.Clone(sums)
	n.Sums[7] = 99
	odd := answersNodes(n, status.Group{Group: 7, Services: []status.Digest{{Name: status.Name{Namespace: "shop", Service: "web"}, Digest: "2"}}})
	f := &fakeFleet{answers: map[string]http.Handler{"odd": odd, "usual": usual}}
	for i := range 5000 {
		f.nodes = append(f.nodes, remote.Node{Name: fmt.Sprintf("node%04d", i), OS: "linux", Pod: "usual"})
	}
	f.nodes[4321].Pod = "odd"
	out, problems, exit := f.run(t, "status -o json --parallel 8")
	var found status.ClusterStatus
	if err := json.Unmarshal([]byte(out), &found); err != nil || exit != wrong || len(found.Nodes) != 5000 {
		t.Fatalf("exit status %d, %d nodes, %v %s", exit, len(found.Nodes), err, problems)
	}
	want := []status.Disagreement{{Name: status.Name{Namespace: "shop", Service: "web"}, Nodes: []string{"node4321"}, How: status.Differs, Than: "node0000"}}
	if diff := cmp.Diff(want, found.Disagreements); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if most := f.most.Load(); most > 8 {
		t.Errorf("%d nodes were asked at once, want at most 8", most)
	}
}

// Many nodes that disagree are a line.
func TestManyNodesThatDisagree(t *testing.T) {
	if got, want := someOf([]string{"a", "b", "c", "d", "e", "f", "g"}), "a, b, c, d, e and 2 others"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Names of Services have the namespace that kubectl's users expect: of the flag, of the name, or of the context.
func TestNamespacesOfThePlugin(t *testing.T) {
	var path string
	f := &fakeFleet{nodes: []remote.Node{{Name: "node1", Pod: "a"}}, answers: map[string]http.Handler{
		"a": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			q.Del("loads")
			path = r.URL.Path + " " + q.Encode()
			fmt.Fprint(w, `{}`)
		}),
	}}
	for _, tt := range []struct{ line, want string }{
		{"get", "/v1alpha1/services namespace=default"},
		{"get -A", "/v1alpha1/services "},
		{"get -n shop", "/v1alpha1/services namespace=shop"},
		{"get -n shop -A", "/v1alpha1/services namespace=shop"},
		{"get endpoints svc/web -n shop", "/v1alpha1/endpoints namespace=shop&service=web"},
		{"get shop/web", "/v1alpha1/services namespace=shop&service=web"},
		{"explain svc/web", "/v1alpha1/explain namespace=default&service=web"},
		{"explain 10.96.0.1:80 --from 10.244.0.1", "/v1alpha1/explain from=10.244.0.1&to=10.96.0.1%3A80"},
		{"top -A --interval 1ms", "/v1alpha1/traffic "},
		{"get --raw /v1alpha1/drains?limit=1", "/v1alpha1/drains limit=1"},
	} {
		path = ""
		if _, problems, exit := f.run(t, tt.line+" --node node1"); exit != 0 || path != tt.want {
			t.Errorf("%s: exit status %d %s, asked %q, want %q", tt.line, exit, problems, path, tt.want)
		}
	}
	for _, tt := range []struct{ line, want string }{
		{"get", `required flag(s) "node" not set`},
		{"get --node node9", "node node9 has no pod"},
		{"get shop/web -n other --node node1", "shop/web is not in namespace other"},
	} {
		if _, problems, exit := f.run(t, tt.line); exit != cli.Failed || !strings.Contains(problems, tt.want) {
			t.Errorf("%s: exit status %d, %q, want %q", tt.line, exit, problems, tt.want)
		}
	}
}

// Shells complete the names of nodes, and of the Services of the node that is named.
func TestCompletionOfThePlugin(t *testing.T) {
	s := see(t)
	f := &fakeFleet{nodes: []remote.Node{{Name: "node1", Pod: "a"}, {Name: "node2"}}, answers: map[string]http.Handler{"a": s.mux}}
	for _, tt := range []struct{ line, want string }{
		{"get --node", "node1\nnode2\n"},
		{"status", "node1\nnode2\n"},
		{"explain --node node1", "default/echo-udp\n"},
		{"explain --node node2", ":1\n"},
	} {
		var out, problems bytes.Buffer
		cmd := pluginCommand("v1.2.3", func(*remote.Flags) (fleet, error) { return f, nil })
		cli.Run(t.Context(), cmd, append([]string{"__complete"}, append(strings.Fields(tt.line), "")...), &out, &problems)
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: %q, want %q", tt.line, out.String(), tt.want)
		}
	}
}
