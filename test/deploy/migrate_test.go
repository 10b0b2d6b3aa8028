//go:build cluster

package deploy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/yaml"

	"kube-ipvs/test/cluster"
)

// elsewhere are commands of docs/migrate.md that do not run here: on the node, which test/takeover does, or with kubelets
// and controllers, which this control plane does not have.
var elsewhere = []string{"curl ", "! iptables-save ", "! ipset ", "! nft ", "kube-ipvs hand-back ", "kubectl drain ", "kubectl uncordon ", "kubectl debug "}

// The commands of docs/migrate.md, in their order, move a node from kube-proxy's DaemonSet to ours and back.
func TestMigrate(t *testing.T) {
	c := start(t, cluster.Config{})
	client, err := c.AdminClient()
	if err != nil {
		t.Fatal(err)
	}
	create(t, client)
	saved := filepath.Join(t.TempDir(), "kube-proxy.yaml")
	steps := []struct{ command, node, other, fresh string }{ // whose pods may run afterwards on NODE, on another node, and on one that joins
		{"kubectl label node --all service-proxy=kube-proxy", "kube-proxy", "kube-proxy", "kube-proxy"},
		{"kubectl apply -f deploy/", "kube-proxy", "kube-proxy", "kube-ipvs kube-proxy"}, // kube-ipvs waits
		{"kubectl -n kube-system patch daemonset kube-proxy", "kube-proxy", "kube-proxy", "kube-ipvs"},
		{"kubectl label node NODE service-proxy-", "kube-ipvs", "kube-proxy", "kube-ipvs"},
		{"kubectl -n kube-system get daemonset kube-proxy", "kube-ipvs", "kube-proxy", "kube-ipvs"},
		{"kubectl -n kube-system delete daemonset kube-proxy", "kube-ipvs", "", "kube-ipvs"},
		{"kubectl apply -f kube-proxy.yaml", "kube-ipvs", "kube-proxy", "kube-ipvs"},
		{"kubectl label node NODE service-proxy=kube-proxy", "kube-proxy", "kube-proxy", "kube-ipvs"},
		{"kubectl -n kube-system patch daemonset kube-proxy", "kube-proxy", "kube-proxy", "kube-ipvs kube-proxy"},
		{"kubectl -n kube-system delete daemonset kube-ipvs", "kube-proxy", "kube-proxy", "kube-proxy"},
	}
	for _, command := range commands(t) {
		if slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(command, prefix) }) {
			continue
		}
		if len(steps) == 0 || !strings.HasPrefix(command, steps[0].command) {
			t.Fatalf("no such step of the test: %s", command)
		}
		if err := kubectl(t.Context(), c, client, saved, command); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		for name, want := range map[string]string{"node": steps[0].node, "other": steps[0].other, "fresh": steps[0].fresh} {
			if got := whoRuns(t, client, name); got != want {
				t.Errorf("after %.60s...: on %s runs %q; want %q", command, name, got, want)
			}
		}
		steps = steps[1:]
	}
	if len(steps) > 0 {
		t.Errorf("not in the page: %v", steps)
	}
}

// create makes two nodes, and kube-proxy's DaemonSet in kubeadm's shape.
func create(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	for _, name := range []string{"NODE", "other"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(name), Labels: map[string]string{"kubernetes.io/os": "linux"}}}
		if _, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{"k8s-app": "kube-proxy"}
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: "kube-system"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
			Containers:   []corev1.Container{{Name: "kube-proxy", Image: "registry.k8s.io/kube-proxy"}},
		}},
	}}
	if _, err := client.AppsV1().DaemonSets("kube-system").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// commands returns the lines of all blocks of shell commands.
func commands(t *testing.T) (out []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		out = append(out, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return out
}

var (
	patched = regexp.MustCompile(`^kubectl -n (\S+) patch daemonset (\S+) --type=strategic -p '(.*)'$`)
	deleted = regexp.MustCompile(`^kubectl -n (\S+) delete daemonset (\S+)$`)
	got     = regexp.MustCompile(`^kubectl -n (\S+) get daemonset (\S+) -o yaml \| grep -v '(.*)' > kube-proxy\.yaml$`)
	labeled = regexp.MustCompile(`^kubectl label node (\S+) ([^=\s]+)(?:=(\S+)|-)$`)
	applied = regexp.MustCompile(`^kubectl apply -f (\S+)$`)
)

// kubectl does what a command of kubectl does, with a file for what is saved.
func kubectl(ctx context.Context, c *cluster.Cluster, client kubernetes.Interface, saved, command string) error {
	if m := patched.FindStringSubmatch(command); m != nil {
		_, err := client.AppsV1().DaemonSets(m[1]).Patch(ctx, m[2], types.StrategicMergePatchType, []byte(m[3]), metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict})
		return err
	}
	if m := deleted.FindStringSubmatch(command); m != nil {
		return client.AppsV1().DaemonSets(m[1]).Delete(ctx, m[2], metav1.DeleteOptions{})
	}
	if m := got.FindStringSubmatch(command); m != nil {
		return save(ctx, client.AppsV1().DaemonSets(m[1]), m[2], regexp.MustCompile("(?m)"+m[3]+".*\n"), saved)
	}
	if m := labeled.FindStringSubmatch(command); m != nil {
		return label(ctx, client.CoreV1().Nodes(), m[1], m[2], m[3])
	}
	if m := applied.FindStringSubmatch(command); m != nil {
		if m[1] == "kube-proxy.yaml" {
			return bringBack(ctx, client, saved)
		}
		objects, err := cluster.ReadObjects("../../" + m[1])
		if err != nil {
			return err
		}
		return c.Apply(ctx, objects)
	}
	return fmt.Errorf("this test cannot run it")
}

// save writes a DaemonSet as "kubectl get" prints it, without lines that match.
func save(ctx context.Context, sets appsclient.DaemonSetInterface, name string, without *regexp.Regexp, file string) error {
	set, err := sets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	set.TypeMeta, set.ManagedFields = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"}, nil
	text, err := yaml.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(file, without.ReplaceAll(text, nil), 0o600)
}

// bringBack makes a DaemonSet that was saved, as "kubectl apply" does with what is not there.
func bringBack(ctx context.Context, client kubernetes.Interface, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	set := new(appsv1.DaemonSet)
	if err := yaml.UnmarshalStrict(text, set); err != nil {
		return err
	}
	_, err = client.AppsV1().DaemonSets(set.Namespace).Create(ctx, set, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	return err
}

// label gives a node, or with "--all" each node, a label, or takes it off if there is no value.
func label(ctx context.Context, nodes coreclient.NodeInterface, node, name, value string) error {
	names := []string{strings.ToLower(node)}
	if node == "--all" {
		list, err := nodes.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		names = nil
		for _, n := range list.Items {
			names = append(names, n.Name)
		}
	}
	to := "null"
	if value != "" {
		to = fmt.Sprintf("%q", value)
	}
	for _, n := range names {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, name, to)
		if _, err := nodes.Patch(ctx, n, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// whoRuns returns which DaemonSets have a pod on a node, or would have one on a node that joins.
func whoRuns(t *testing.T, client kubernetes.Interface, name string) string {
	t.Helper()
	sets, err := client.AppsV1().DaemonSets("kube-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"kubernetes.io/os": "linux"}
	if name != "fresh" {
		node, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		labels = node.Labels
	}
	var out []string
	for _, set := range sets.Items {
		if fits(set.Spec.Template.Spec, labels) {
			out = append(out, set.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// fits reports whether a pod may run on a node with these labels.
func fits(pod corev1.PodSpec, labels map[string]string) bool {
	for name, value := range pod.NodeSelector {
		if labels[name] != value {
			return false
		}
	}
	if pod.Affinity == nil {
		return true
	}
	return slices.ContainsFunc(pod.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(term corev1.NodeSelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
			return r.Operator != corev1.NodeSelectorOpNotIn || slices.Contains(r.Values, labels[r.Key])
		})
	})
}
