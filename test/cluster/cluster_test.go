//go:build cluster

package cluster

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func TestCluster(t *testing.T) {
	for name, config := range map[string]Config{
		"here":                      {},
		"in a namespace of its own": {Namespace: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Start(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeAndLook(t, c) })

			t.Run("Services get addresses of both families", func(t *testing.T) { testServices(t, c) })
			t.Run("nodes have what the test says", func(t *testing.T) { testNodes(t, c) })
			t.Run("service accounts may do what RBAC grants", func(t *testing.T) { testAccounts(t, c) })
			t.Run("a kubeconfig file says who and where", func(t *testing.T) { testKubeconfig(t, c) })
			t.Run("objects are validated strictly", func(t *testing.T) { testApply(t, c) })
			t.Run("commands run where the server is", func(t *testing.T) { testCommand(t, c) })
			t.Run("programs run beside the server", func(t *testing.T) { testRun(t, c) })
			t.Run("a test kernel reaches the server", func(t *testing.T) { testKernel(t, c) })
			t.Run("the server is away and comes back", func(t *testing.T) { testRestart(t, c) })
		})
	}
}

// closeAndLook closes the cluster and looks for what it may have left.
func closeAndLook(t *testing.T, c *Cluster) {
	if len(c.processes) != 2 {
		t.Errorf("%d processes, want 2", len(c.processes))
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for _, p := range append(c.processes, c.beside...) {
		if alive(t, p.command.Process.Pid) {
			t.Errorf("%s still runs", p.name)
		}
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder after Close: %v, want none", err)
	}
}

// alive tells if the process is there and not merely a zombie that nobody has waited for.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ") // proc_pid_stat(5): pid (name) state
	return !strings.HasPrefix(state, "Z")
}

func testServices(t *testing.T, c *Cluster) {
	both := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "both"},
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeNodePort,
			IPFamilyPolicy: &both,
			Ports:          []corev1.ServicePort{{Port: 80}},
		},
	}
	got, err := adminClient(t, c).CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Spec.ClusterIPs) != 2 {
		t.Fatalf("cluster IPs %v, want two", got.Spec.ClusterIPs)
	}
	for i, cidr := range []string{ServiceCIDR4, ServiceCIDR6} {
		if ip := got.Spec.ClusterIPs[i]; !netip.MustParsePrefix(cidr).Contains(netip.MustParseAddr(ip)) {
			t.Errorf("cluster IP %s is not in %s", ip, cidr)
		}
	}
	if port := got.Spec.Ports[0].NodePort; port < 30000 || port > 32767 {
		t.Errorf("node port %d, want one of 30000 to 32767", port)
	}
}

func testNodes(t *testing.T, c *Cluster) {
	want := Node{
		Name:      "one",
		Labels:    map[string]string{corev1.LabelTopologyZone: "a"},
		Addresses: []netip.Addr{netip.MustParseAddr("172.30.0.2"), netip.MustParseAddr("fd00:172:30::2")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")},
	}
	if err := c.CreateNode(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := adminClient(t, c).CoreV1().Nodes().Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.status(), got.Status, cmpopts.IgnoreFields(corev1.NodeStatus{}, "DaemonEndpoints", "NodeInfo")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.object().Spec, got.Spec, cmpopts.IgnoreFields(corev1.NodeSpec{}, "Taints")); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if zone := got.Labels[corev1.LabelTopologyZone]; zone != "a" {
		t.Errorf("zone %q, want a", zone)
	}
	if err := c.CreateNode(t.Context(), want); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second node of that name: %v, want that it exists already", err)
	}
}

func testAccounts(t *testing.T, c *Cluster) {
	if _, err := c.ServiceAccount(t.Context(), "default", "nobody"); !apierrors.IsNotFound(err) {
		t.Errorf("token of an account that does not exist: %v, want not found", err)
	}
	if err := c.Apply(t.Context(), readObjects(t, "testdata/reader.yaml")); err != nil {
		t.Fatal(err)
	}
	reader, err := c.ServiceAccount(t.Context(), "default", "reader")
	if err != nil {
		t.Fatal(err)
	}
	client, err := reader.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list services, which is granted: %v", err)
	}
	if _, err := client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets, which is not granted: %v, want forbidden", err)
	}
	if _, err := client.CoreV1().Services("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list services of another namespace: %v, want forbidden", err)
	}
}

func testKubeconfig(t *testing.T, c *Cluster) {
	somebody, err := c.User("somebody", "some")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := somebody.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != c.URL() {
		t.Errorf("server %s, want %s", config.Host, c.URL())
	}
	config.Dial = somebody.Config().Dial // a file cannot say that the server is in another namespace
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if user := got.Status.UserInfo; user.Username != "somebody" || !slices.Contains(user.Groups, "some") {
		t.Errorf("the server sees %v, want somebody of some", user)
	}
}

func testApply(t *testing.T, c *Cluster) {
	if err := c.DryRun(t.Context(), readObjects(t, "testdata/right.yaml")); err != nil {
		t.Errorf("right objects: %v", err)
	}
	if _, err := adminClient(t, c).CoreV1().ConfigMaps("default").Get(t.Context(), "right", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("object after a dry run: %v, want not found", err)
	}
	err := c.Apply(t.Context(), readObjects(t, "testdata/wrong.yaml"))
	for _, want := range []string{"DaemonSet default/misspelt", "hostNetwrok", "Widget default/unknown", "no matches for kind"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wrong objects: %v, want that it names %q", err, want)
		}
	}
	if _, err := ReadObjects("testdata/twice.yaml"); err == nil || !strings.Contains(err.Error(), `"name" already set`) {
		t.Errorf("a key that is there twice: %v", err)
	}
}

func testCommand(t *testing.T, c *Cluster) {
	if output, err := c.Command("bash", "-c", connect(c)).CombinedOutput(); err != nil {
		t.Errorf("connect to the API server: %v: %s", err, output)
	}
	links, err := c.Command("cat", "/proc/net/dev").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Contains(string(links), TapName+":"), c.namespace != nil; got != want {
		t.Errorf("there is a link %s: %v, want %v", TapName, got, want)
	}
	if c.namespace == nil {
		return
	}
	if link, err := c.Command("ip", "-details", "link", "show", TapName).Output(); err != nil || !strings.Contains(string(link), " gso_max_segs 1 ") {
		t.Errorf("%s sends several segments at once: %s, %v", TapName, link, err)
	}
}

func testRun(t *testing.T, c *Cluster) {
	folder := t.TempDir()
	ended, err := c.Run("words", folder, "echo", "I am", "here")
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	if text, err := os.ReadFile(filepath.Join(folder, "words.log")); string(text) != "I am here\n" {
		t.Errorf("log %q, error %v", text, err)
	}
	if _, err := c.Run("sleep", folder, "sleep", "1000"); err != nil { // for closeAndLook
		t.Fatal(err)
	}
}

func testKernel(t *testing.T, c *Cluster) {
	script := connect(c) + " && ip -brief address show dev " + KernelLink
	command, err := c.InKernel(t.Context(), "bash", "-c", script)
	if c.namespace == nil {
		if err == nil {
			t.Error("a kernel, and no tap device to attach it to")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{TapPeer4, TapPeer6} {
		if !strings.Contains(string(output), want) {
			t.Errorf("%s in the test kernel: %s, want %s", KernelLink, output, want)
		}
	}
}

func testRestart(t *testing.T, c *Cluster) {
	nodes := adminClient(t, c).CoreV1().Nodes()
	if err := c.StopServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes.Get(t.Context(), "one", metav1.GetOptions{}); err == nil {
		t.Error("an answer while the API server is away")
	}
	if err := c.StopServer(); err == nil {
		t.Error("it could be stopped twice")
	}
	if err := c.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes.Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
		t.Errorf("what was there before: %v", err)
	}
}

// connect returns a script for bash that connects to the API server.
func connect(c *Cluster) string {
	host, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	return "exec 3<> /dev/tcp/" + host + "/" + port
}

func adminClient(t *testing.T, c *Cluster) *kubernetes.Clientset {
	t.Helper()
	client, err := c.AdminClient()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func readObjects(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := ReadObjects(path)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
