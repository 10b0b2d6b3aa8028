//go:build cluster

package deploy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// shown are the commands of kubectl on docs/install.md and docs/alerts.md, but for those with a file or an overlay (test/charts), and
// the requests that they are.
var shown = map[string]func(t *testing.T, client *kubernetes.Clientset){
	"kubectl -n kube-system delete daemonset kube-proxy":            deleteKubeProxy,
	"kubectl -n kube-system rollout status daemonset/kube-ipvs":     rolloutStatus,
	"kubectl get events -A --field-selector reason=NotServed":       func(t *testing.T, c *kubernetes.Clientset) { listEvents(t, c, "NotServed") },
	"kubectl get events -A --field-selector reason=KubeIPVSProblem": func(t *testing.T, c *kubernetes.Clientset) { listEvents(t, c, "KubeIPVSProblem") },
}

// testCommands runs what the pages show, and finds nothing shown that it does not run.
func testCommands(t *testing.T, client *kubernetes.Clientset) {
	found := map[string]bool{}
	for _, page := range []string{"install.md", "alerts.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^    (kubectl .*)$`).FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = true
			if shown[m[1]] == nil && !strings.Contains(m[1], " -k ") && !strings.Contains(m[1], " -f ") {
				t.Errorf("%s shows %s, which no test runs", page, m[1])
			}
		}
	}
	for command, run := range shown {
		if !found[command] {
			t.Errorf("no page shows %s", command)
		}
		t.Run(command, func(t *testing.T) { run(t, client) })
	}
}

// deleteKubeProxy deletes kube-proxy's DaemonSet, which the test makes out of ours. The account stays for the overlay kubeadm.
func deleteKubeProxy(t *testing.T, client *kubernetes.Clientset) {
	sets := client.AppsV1().DaemonSets("kube-system")
	ours, err := sets.Get(t.Context(), "kube-ipvs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	theirs := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy"}, Spec: ours.Spec}
	if _, err := sets.Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := sets.Delete(t.Context(), "kube-proxy", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := client.CoreV1().ServiceAccounts("kube-system").Get(t.Context(), "kube-proxy", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// rolloutStatus reads what kubectl waits for; nobody schedules pods here.
func rolloutStatus(t *testing.T, client *kubernetes.Clientset) {
	set, err := client.AppsV1().DaemonSets("kube-system").Get(t.Context(), "kube-ipvs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		t.Errorf("kubectl has a status of roll-outs of the type RollingUpdate alone, not %s", set.Spec.UpdateStrategy.Type)
	}
}

// listEvents finds the Events of a reason and no others.
func listEvents(t *testing.T, client *kubernetes.Clientset, reason string) {
	for _, other := range []string{reason, "Other"} {
		event := &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower("docs-" + other), Namespace: "default"}, EventTime: metav1.NowMicro(),
			ReportingController: "kube-ipvs", ReportingInstance: "kube-ipvs-one", Action: "Proxy", Reason: other, Type: corev1.EventTypeWarning,
			Regarding: corev1.ObjectReference{Kind: "Service", Namespace: "default", Name: "kubernetes"},
		}
		if _, err := client.EventsV1().Events("default").Create(t.Context(), event, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	list, err := client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Reason != reason {
		t.Errorf("%d Events of the reason %s, want 1", len(list.Items), reason)
	}
}
