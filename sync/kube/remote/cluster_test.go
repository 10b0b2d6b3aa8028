package remote

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A server is an API server that has nodes and pods, and gives them out in pages of two.
type server struct {
	nodes []corev1.Node
	pods  []corev1.Pod
	asked []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.URL.Path+"?"+r.URL.RawQuery)
	first := 0
	if text := r.URL.Query().Get("continue"); text != "" {
		fmt.Sscan(text, &first)
	}
	var answer any
	switch r.URL.Path {
	case "/api/v1/nodes":
		items, next := page(s.nodes, first)
		answer = corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"}, ListMeta: next, Items: items}
	case "/api/v1/namespaces/kube-system/pods":
		items, next := page(s.pods, first)
		answer = corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, ListMeta: next, Items: items}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func page[T any](all []T, first int) ([]T, metav1.ListMeta) {
	end := min(first+2, len(all))
	next := metav1.ListMeta{}
	if end < len(all) {
		next.Continue = fmt.Sprint(end)
	}
	return all[first:end], next
}

// connect connects to a server by a kubeconfig file and flags.
func connect(t *testing.T, url string, args ...string) (*Cluster, *Flags) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	config := fmt.Sprintf(`{"clusters": [{"name": "a", "cluster": {"server": %q}}, {"name": "b", "cluster": {"server": "http://192.0.2.1"}}],
		"contexts": [{"name": "a", "context": {"cluster": "a", "namespace": "shop"}}, {"name": "b", "context": {"cluster": "b"}}], "current-context": "b"}`, url)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var f Flags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Add(fs)
	if err := fs.Parse(append(args, "--kubeconfig="+file, "--context=a")); err != nil {
		t.Fatal(err)
	}
	c, err := f.Connect("v1")
	if err != nil {
		t.Fatal(err)
	}
	return c, &f
}

// podOn is a pod that runs on a node, as old as is given.
func podOn(node, name string, age time.Duration) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
		Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// All pages are read, all nodes are there, and of several pods on one the one that can be asked.
func TestNodes(t *testing.T) {
	s := &server{}
	for _, name := range []string{"c", "a", "d", "b", "e"} {
		s.nodes = append(s.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}})
	}
	pending := podOn("c", "c-new", 0)
	pending.Status.Phase = corev1.PodPending
	s.pods = []corev1.Pod{podOn("a", "a-old", time.Hour), podOn("a", "a-new", 0), podOn("a", "a-older", 2*time.Hour), podOn("c", "c-old", time.Hour), pending, podOn("gone", "gone", 0), podOn("d", "d", 0)}
	s.pods[6].Status.Phase = corev1.PodFailed
	web := httptest.NewServer(s)
	defer web.Close()
	c, _ := connect(t, web.URL)
	got, err := c.Nodes(t.Context(), "zone=a")
	want := []Node{
		{Name: "a", OS: "linux", Pod: "a-new"}, {Name: "b", OS: "linux"}, {Name: "c", OS: "linux", Pod: "c-old"},
		{Name: "d", OS: "linux", Pod: "d", Down: "pod d is Failed"}, {Name: "e", OS: "linux"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	asked := strings.Join(s.asked, "\n")
	for _, want := range []string{"/api/v1/nodes?labelSelector=zone%3Da&limit=500\n", "continue=4", "pods?labelSelector=app.kubernetes.io%2Fname%3Dkube-ipvs&limit=500"} {
		if !strings.Contains(asked, want) {
			t.Errorf("asked:\n%s\nwant %q", asked, want)
		}
	}
	if strings.Count(asked, "/nodes") != 3 || strings.Count(asked, "/pods") != 4 {
		t.Errorf("asked:\n%s\nwant 3 pages of nodes and 4 of pods", asked)
	}
}

// To ask one node takes no right to list nodes.
func TestNode(t *testing.T) {
	s := &server{pods: []corev1.Pod{podOn("a", "a-1", 0)}}
	web := httptest.NewServer(s)
	defer web.Close()
	c, f := connect(t, web.URL)
	if n, err := c.Node(t.Context(), "a"); n.Pod != "a-1" || err != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if len(s.asked) != 1 || !strings.Contains(s.asked[0], "fieldSelector=spec.nodeName%3Da") {
		t.Errorf("asked %q, want its pod alone", s.asked)
	}
	if _, err := c.Node(t.Context(), "b"); err == nil || !strings.HasPrefix(err.Error(), "node b has no pod of kube-ipvs (app.kubernetes.io/name=kube-ipvs in namespace kube-system)") {
		t.Errorf("a node without a pod: %v", err)
	}
	s.pods[0].Status.Phase = corev1.PodPending
	if _, err := c.Node(t.Context(), "a"); err == nil || err.Error() != "node a: pod a-1 is Pending" {
		t.Errorf("a pod that does not run: %v", err)
	}
	if name, isGiven, err := f.Namespace(); name != "shop" || isGiven || err != nil {
		t.Errorf("namespace of the context: %s %v %v", name, isGiven, err)
	}
	_, f = connect(t, web.URL, "-n", "other")
	if name, isGiven, err := f.Namespace(); name != "other" || !isGiven || err != nil {
		t.Errorf("namespace of the flag: %s %v %v", name, isGiven, err)
	}
}

// A node that does not answer costs as long as is given, and 10 seconds otherwise.
func TestTimeout(t *testing.T) {
	hang := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer web.Close()
	defer close(hang)
	c, _ := connect(t, web.URL, "--request-timeout=10ms")
	if _, err := c.Nodes(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "list nodes: ") {
		t.Errorf("nobody answers: %v", err)
	}
	client := http.Client{Transport: c.Transport(Node{Pod: "a"})}
	if _, err := client.Get("http://a/v1alpha1/nodes"); err == nil || !strings.Contains(err.Error(), "no answer within 10ms (--request-timeout)") {
		t.Errorf("the pod does not answer: %v", err)
	}
	if c, _ := connect(t, web.URL); c.timeout != 10*time.Second {
		t.Errorf("a timeout of %v without a flag", c.timeout)
	}
}

func TestDownOf(t *testing.T) {
	waiting := func(container, reason, message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: container, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	for _, tt := range []struct {
		name string
		edit func(*corev1.Pod)
		want string
	}{
		{"it runs", func(*corev1.Pod) {}, ""},
		{"another container waits", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("other", "CrashLoopBackOff", "")}
		}, ""},
		{"its container waits", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("kube-ipvs", "CrashLoopBackOff", "back-off 10s")}
		}, "pod p: CrashLoopBackOff: back-off 10s"},
		{"without a message", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("kube-ipvs", "ImagePullBackOff", "")}
		}, "pod p: ImagePullBackOff"},
		{"its container has ended", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "kube-ipvs", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}}}
		}, "pod p: container has ended with status 1: Error"},
		{"not begun", func(p *corev1.Pod) { p.Status.Phase = "" }, "pod p is Pending"},
		{"it goes", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, "pod p is being deleted"},
	} {
		p := podOn("a", "p", 0)
		tt.edit(&p)
		if got := downOf(&p, "kube-ipvs"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// An answer that is too long is an error, and not all of the memory.
func TestBounded(t *testing.T) {
	b := bounded{max: 3}
	if _, err := b.Write([]byte("abc")); err != nil {
		t.Error(err)
	}
	if _, err := b.Write([]byte("d")); err == nil || b.String() != "abc" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
