//go:build cluster

package deploy_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

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
	steps := []struct{ command, runs string }{ // where a pod of each DaemonSet may run afterwards, on NODE and another one
		{"kubectl -n kube-system patch daemonset kube-proxy", "kube-proxy on NODE, kube-proxy on other"},
		{"kubectl apply -f", "kube-ipvs on NODE, kube-ipvs on other, kube-proxy on NODE, kube-proxy on other"}, // kube-ipvs waits
		{"kubectl -n kube-system patch daemonset kube-ipvs", "kube-proxy on NODE, kube-proxy on other"},
		{"kubectl label node NODE service-proxy=kube-ipvs", "kube-ipvs on NODE, kube-proxy on other"},
		{"kubectl -n kube-system delete daemonset", "kube-ipvs on NODE"},
		{"kubectl label node NODE service-proxy-", ""},
	}
	for _, command := range commands(t) {
		if slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(command, prefix) }) {
			continue
		}
		if len(steps) == 0 || !strings.HasPrefix(command, steps[0].command) {
			t.Fatalf("no such step of the test: %s", command)
		}
		if err := kubectl(t.Context(), c, client, command); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		if got := whoRuns(t, client); got != steps[0].runs {
			t.Errorf("after %.60s...: %s; want %s", command, got, steps[0].runs)
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
	labeled = regexp.MustCompile(`^kubectl label node (\S+) ([^=\s]+)(?:=(\S+)|-)$`)
	applied = regexp.MustCompile(`^kubectl apply -f (\S+)$`)
)

// kubectl does what a command of kubectl does.
func kubectl(ctx context.Context, c *cluster.Cluster, client kubernetes.Interface, command string) error {
	if m := patched.FindStringSubmatch(command); m != nil {
		_, err := client.AppsV1().DaemonSets(m[1]).Patch(ctx, m[2], types.StrategicMergePatchType, []byte(m[3]), metav1.PatchOptions{FieldValidation: metav1.FieldValidationStrict})
		return err
	}
	if m := deleted.FindStringSubmatch(command); m != nil {
		return client.AppsV1().DaemonSets(m[1]).Delete(ctx, m[2], metav1.DeleteOptions{})
	}
	if m := labeled.FindStringSubmatch(command); m != nil {
		value := "null"
		if m[3] != "" {
			value = fmt.Sprintf("%q", m[3])
		}
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, m[2], value)
		_, err := client.CoreV1().Nodes().Patch(ctx, strings.ToLower(m[1]), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	if m := applied.FindStringSubmatch(command); m != nil {
		objects, err := cluster.ReadObjects("../../" + m[1])
		if err != nil {
			return err
		}
		return c.Apply(ctx, objects)
	}
	return fmt.Errorf("this test cannot run it")
}

// whoRuns returns which DaemonSets have a pod on which nodes.
func whoRuns(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	sets, err := client.AppsV1().DaemonSets("kube-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, set := range sets.Items {
		for _, node := range nodes.Items {
			if fits(set.Spec.Template.Spec, node.Labels) {
				out = append(out, set.Name+" on "+strings.Replace(node.Name, "node", "NODE", 1))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
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
