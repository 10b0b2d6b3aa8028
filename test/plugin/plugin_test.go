//go:build cluster

// Package plugin_test holds kubectl's plugin against the real API server, with the rights that deploy/plugin grants and no others:
// kubectl-ipvs lists nodes and pods, and runs the real kube-ipvs in pods of a kubelet that only runs commands.
package plugin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"kube-ipvs/sync/status"
	"kube-ipvs/test/cluster"
)

// A world is a cluster with nodes, and somebody who may use the plugin.
type world struct {
	*cluster.Cluster
	admin      *kubernetes.Clientset
	viewer     cluster.User
	kubeconfig string // the viewer's
	plugin     string // path of the program
	kubelet    *kubelet
	nodes      []*node
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Cluster: c, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	program, err := cluster.Build(t.Context(), "kube-ipvs")
	must(t, err)
	w.plugin, err = cluster.Build(t.Context(), "kubectl-ipvs")
	must(t, err)
	w.admin, err = c.AdminClient()
	must(t, err)
	rights, err := cluster.ReadObjects("../../deploy/plugin/viewer.yaml")
	must(t, err)
	must(t, c.Apply(t.Context(), rights))
	w.viewer, err = c.User("vera", "kube-ipvs-viewers")
	must(t, err)
	must(t, w.viewer.WriteKubeconfig(w.kubeconfig))
	w.kubelet = newKubelet(t, program)
	for i := range 3 {
		w.addNode(t, fmt.Sprintf("node%d", i+1), "linux")
		w.nodes = append(w.nodes, newNode(t, w.admin, i+1))
		w.addPod(t, fmt.Sprintf("node%d", i+1), w.nodes[i].socket)
	}
	w.awaitPolicy(t)
	return w
}

// awaitPolicy waits until the API server refuses the viewer what the policy refuses: it reads policies about once a second, and lets
// everything through before.
func (w *world) awaitPolicy(t *testing.T) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := execute(t, w.viewer, false, "kube-ipvs", "kube-ipvs", "--version")
		if isForbidden(err) {
			w.kubelet.forget()
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("the policy is not in force after a minute: %v", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addNode makes a node whose kubelet is the world's.
func (w *world) addNode(t *testing.T, name, system string) {
	t.Helper()
	must(t, w.CreateNode(t.Context(), cluster.Node{
		Name: name, Labels: map[string]string{corev1.LabelOSStable: system}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}))
	n, err := w.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = w.kubelet.port()
	_, err = w.admin.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{})
	must(t, err)
}

// addPod makes the pod of kube-ipvs on a node, which runs. It has the name of the DaemonSet's container and labels.
func (w *world) addPod(t *testing.T, node, socket string) {
	t.Helper()
	objects, err := cluster.ReadObjects("../../deploy/base/daemonset.yaml")
	must(t, err)
	labels, _, err := unstructured.NestedStringMap(objects[0].Object, "spec", "template", "metadata", "labels")
	must(t, err)
	pods := w.admin.CoreV1().Pods("kube-system")
	p, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-ipvs-" + node, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kube-ipvs", Image: "kube-ipvs"}, {Name: "other", Image: "other"}}},
	}, metav1.CreateOptions{})
	must(t, err)
	p.Status.Phase = corev1.PodRunning
	_, err = pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	must(t, err)
	w.kubelet.sockets[p.Name] = socket
}

// run runs the plugin as the viewer.
func (w *world) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), w.plugin, append(args, "--kubeconfig="+w.kubeconfig)...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

// status asks for the status until it is as expected: a line for each node, and one for each disagreement.
func (w *world) status(t *testing.T, want []string, code int, args ...string) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		out, problems, exit := w.run(t, append([]string{"status", "-o", "json", "--lag=1s"}, args...)...)
		var found status.ClusterStatus
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("%v: %s%s", err, out, problems)
		}
		var got []string
		for _, n := range found.Nodes {
			got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", n.Name, n.State, n.Reason), ": "))
		}
		for _, d := range found.Disagreements {
			got = append(got, fmt.Sprintf("%s/%s %s on %s", d.Namespace, d.Service, d.How, strings.Join(d.Nodes, ",")))
		}
		diff := cmp.Diff(want, got)
		if diff == "" && exit == code {
			return
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("exit status %d, want %d; %s(-want +got):\n%s", exit, code, problems, diff)
		}
	}
}

// TestPlugin tells one story after the other to one cluster, since a start takes long.
func TestPlugin(t *testing.T) {
	w := newWorld(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *world)
	}{
		{"nodes agree, and one is asked about Services", testAgreement},
		{"what its viewers may do", testRights},
		{"what others may do", testOthers},
		{"proxies on the way", testProtocols},
		{"one does not hear of changes", testDisagreement},
		{"nodes that are not ready, not there or do not answer", testTrouble},
		{"the API server is away", testAway},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, w) })
	}
}

func (w *world) service(t *testing.T, name string) {
	t.Helper()
	_, err := w.admin.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	must(t, err)
}

// local makes a Service of which each node has a plan of its own: its policy is Local, its endpoints are hinted for zones, and node ports
// are at the node's own addresses.
func (w *world) local(t *testing.T, name string) {
	t.Helper()
	_, err := w.admin.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](8080)}},
	}
	for i := range 2 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.244.%d.5", i+1)}, NodeName: ptr.To(fmt.Sprintf("node%d", i+1)),
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprintf("zone%d", i+1)}}},
		})
	}
	_, err = w.admin.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{})
	must(t, err)
}

func testAgreement(t *testing.T, w *world) {
	w.service(t, "web")
	w.local(t, "local")
	w.status(t, []string{"node1 Ready", "node2 Ready", "node3 Ready"}, 0)
	for _, tt := range []struct{ args, want string }{
		{"get svc/web --node node2", "default     web    Rejecting   1/1"},
		{"get frontends web --node node2 -o yaml", "node: node2\n"},
		{"get frontends local --node node1", "192.0.2.1:"}, // each node has a plan of its own
		{"get frontends local --node node3", "192.0.2.3:"},
		{"get endpoints local --node node1", "NotServed   cluster IP: hinted for other nodes or zones; node port: not on this node"},
		{"explain svc/web --node node1 --from 192.0.2.9", "From 192.0.2.9 (outside): refused\n"},
		{"get --raw /v1alpha1/services?service=web --node node3", `"state":"Rejecting"`},
	} {
		if out, problems, code := w.run(t, strings.Fields(tt.args)...); code != 0 || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit status %d, want %q in:\n%s%s", tt.args, code, tt.want, out, problems)
		}
	}
	for _, tt := range []struct{ args, want string }{
		{"get svc/none --node node2", "kubectl ipvs: no such Service is served\n"},
		{"get --node node9", "kubectl ipvs: node node9 has no pod of kube-ipvs"},
		{"get --node node1 --pods-socket /none", "kubectl ipvs: node node1 does not answer: "},
		{"get --node node1 --pods-namespace default", "pods is forbidden"},
	} {
		if out, problems, code := w.run(t, strings.Fields(tt.args)...); code != 1 || !strings.Contains(problems, tt.want) {
			t.Errorf("%s: exit status %d, want %q in:\n%s%s", tt.args, code, tt.want, out, problems)
		}
	}
	for _, command := range w.kubelet.commands() {
		if !strings.Contains(command, "/kube-ipvs: kube-ipvs get --raw /v1alpha1/") {
			t.Errorf("a command that is more than to ask: %s", command)
		}
	}
}

// testRights holds the viewer to the rights that the plugin needs.
func testRights(t *testing.T, w *world) {
	client, err := w.viewer.Client()
	must(t, err)
	for _, tt := range []struct {
		name    string
		do      func() error
		allowed bool
	}{
		{"list nodes", func() error { _, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); return err }, true},
		{"list pods of kube-system", func() error {
			_, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{})
			return err
		}, true},
		{"list pods of others", func() error {
			_, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
			return err
		}, false},
		{"read Secrets", func() error {
			_, err := client.CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
			return err
		}, false},
		{"delete pods", func() error {
			return client.CoreV1().Pods("kube-system").Delete(t.Context(), "kube-ipvs-node1", metav1.DeleteOptions{})
		}, false},
		{"list Services", func() error {
			_, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
			return err
		}, false},
		{"ask kube-ipvs", func() error {
			return execute(t, w.viewer, false, "kube-ipvs", "kube-ipvs", "get", "--raw", "/v1alpha1/nodes")
		}, true},
		{"ask it on", func() error {
			return execute(t, w.viewer, false, "kube-ipvs", "kube-ipvs", "get", "--raw", "/", "--socket=/x")
		}, false},
		{"clean up", func() error { return execute(t, w.viewer, false, "kube-ipvs", "kube-ipvs", "--cleanup") }, false},
		{"run a shell", func() error { return execute(t, w.viewer, false, "kube-ipvs", "sh") }, false},
		{"run something in another container", func() error {
			return execute(t, w.viewer, false, "other", "kube-ipvs", "get", "--raw", "/v1alpha1/nodes")
		}, false},
		{"write to it", func() error {
			return execute(t, w.viewer, true, "kube-ipvs", "kube-ipvs", "get", "--raw", "/v1alpha1/nodes")
		}, false},
	} {
		if err := tt.do(); (err == nil) != tt.allowed || err != nil && !isForbidden(err) {
			t.Errorf("%s: %v, want allowed: %v", tt.name, err, tt.allowed)
		}
	}
}

// testOthers: the policy is for the group alone.
func testOthers(t *testing.T, w *world) {
	admin, err := w.Admin()
	must(t, err)
	if err := execute(t, admin, false, "kube-ipvs", "kube-ipvs", "get", "-o", "json"); err != nil {
		t.Errorf("an administrator runs another command: %v", err)
	}
	nobody, err := w.User("nobody")
	must(t, err)
	if err := execute(t, nobody, false, "kube-ipvs", "kube-ipvs", "get", "--raw", "/v1alpha1/nodes"); !isForbidden(err) {
		t.Errorf("somebody else: %v, want forbidden", err)
	}
}

func isForbidden(err error) bool {
	return apierrors.IsForbidden(err) || err != nil && strings.Contains(strings.ToLower(err.Error()), "forbidden")
}

// execute runs a command in a pod as a user.
func execute(t *testing.T, user cluster.User, writes bool, container string, command ...string) error {
	t.Helper()
	client, err := user.Client()
	must(t, err)
	options := &corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true, Stdin: writes}
	url := client.CoreV1().RESTClient().Post().Resource("pods").Namespace("kube-system").Name("kube-ipvs-node1").SubResource("exec").
		VersionedParams(options, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewSPDYExecutor(user.Config(), "POST", url)
	must(t, err)
	stream := remotecommand.StreamOptions{Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	if writes {
		stream.Stdin = strings.NewReader("")
	}
	return executor.StreamWithContext(t.Context(), stream)
}

// testDisagreement: what a node does not hear of is found, once it is older than a change takes.
func testDisagreement(t *testing.T, w *world) {
	w.nodes[1].deafen()
	w.service(t, "late")
	must(t, w.admin.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	w.status(t, []string{"node1 Ready", "node2 Ready", "node3 Ready", "default/late Missing on node2", "default/web Surplus on node2"}, 1)
	w.status(t, []string{"node1 Ready", "node3 Ready"}, 0, "node1", "node3")
}

func testTrouble(t *testing.T, w *world) {
	reason := "a change has waited for 1m20s to be programmed"
	w.nodes[0].unready.Store(&reason)
	w.addNode(t, "node4", "linux")
	w.addNode(t, "node5", "linux")
	w.addPod(t, "node5", "/none")
	w.addNode(t, "win1", "windows")
	w.kubelet.hang("kube-ipvs-node3", true)
	w.status(t, []string{
		"node1 NotReady: a change has waited for 1m20s to be programmed", "node2 Ready",
		"node3 NoAnswer: no answer within 3s (--request-timeout)",
		"node4 NoPod: no pod of kube-ipvs is on the node",
		"node5 NoAnswer: kube-ipvs: no kube-ipvs answers at /none (--socket): dial unix /none: connect: no such file or directory",
		"win1 NotLinux: windows",
		"default/late Missing on node2", "default/web Surplus on node2",
	}, 1, "--request-timeout=3s")
	w.status(t, []string{"node2 Ready", "node5 NoAnswer: kube-ipvs: no kube-ipvs answers at /none (--socket): dial unix /none: connect: no such file or directory"}, 2, "node2", "node5")
	w.kubelet.hang("kube-ipvs-node3", false)
}

func testAway(t *testing.T, w *world) {
	must(t, w.StopServer())
	if _, problems, code := w.run(t, "status"); code != 2 || !strings.Contains(problems, "kubectl ipvs: list nodes: ") {
		t.Errorf("exit status %d, %s", code, problems)
	}
}
