//go:build cluster

package e2e_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testNothingFailed looks back on the stories before: the kernel refused no change, nothing is left to do, and the API
// server refused no request.
func testNothingFailed(t *testing.T, w *world) {
	for _, prefix := range []string{"kube_ipvs_layer_operation_failures_total", "kube_ipvs_layer_objects"} {
		for _, m := range w.metrics(t, prefix) {
			if m.value != 0 && !strings.Contains(m.name, `state="present"`) {
				t.Errorf("%s is %v, want 0", m.name, m.value)
			}
		}
	}
	w.node.ask(t, "GET", "http://"+nodeHost+":10256/healthz") // fails if it is not healthy
	if refused := w.refusals(t); refused > 0 {
		t.Errorf("the API server has refused %v requests", refused)
	}
	log := w.node.get(t, "/log", nil)
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "E") || strings.Contains(line, "forbidden") {
			t.Errorf("kube-ipvs logged: %s", line)
		}
	}
}

// refusals returns how many requests the API server has refused to authorize.
func (w *world) refusals(t *testing.T) float64 {
	t.Helper()
	text, err := w.api.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	must(t, err)
	all := samples(t, string(text), "authorization_attempts_total{")
	if len(all) == 0 {
		t.Fatal("the API server does not count authorizations")
	}
	var refused float64
	for _, s := range all {
		if !strings.Contains(s.name, `"allowed"`) {
			refused += s.value
		}
	}
	return refused
}

// testFewerRights takes the right to read ServiceCIDRs away, which older API servers do not have.
func testFewerRights(t *testing.T, w *world) {
	kept := w.keep(t, "kept")
	roles := w.api.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "kube-ipvs", metav1.GetOptions{})
	must(t, err)
	before := len(role.Rules)
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "servicecidrs") })
	if len(role.Rules) != before-1 {
		t.Fatalf("%d rules of %d are about ServiceCIDRs, want 1", before-len(role.Rules), before)
	}
	_, err = roles.Update(t.Context(), role, metav1.UpdateOptions{})
	must(t, err)
	w.awaitNoServiceCIDRs(t)

	refused := w.refusals(t)
	w.terminate(t)
	w.node.start(t)
	s := w.keep(t, "new")
	w.node.still(t, "asker", clusterIPs(kept), "pod1 saw asker")
	w.remove(t, s.Name)
	w.node.await(t, "asker", clusterIPs(s), "unreachable") // of a range that is not known
	if w.refusals(t) == refused {
		t.Error("nothing was refused: this story tells nothing, nor does the count of refusals")
	}
}

// awaitNoServiceCIDRs waits until the API server refuses kube-ipvs's account its ServiceCIDRs.
func (w *world) awaitNoServiceCIDRs(t *testing.T) {
	t.Helper()
	account, err := w.cluster.ServiceAccount(t.Context(), "kube-system", "kube-ipvs")
	must(t, err)
	client, err := account.Client()
	must(t, err)
	eventually(t, func() error {
		_, err := client.NetworkingV1().ServiceCIDRs().List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			return errors.Join(errors.New("ServiceCIDRs are not forbidden"), err)
		}
		return nil
	})
}
