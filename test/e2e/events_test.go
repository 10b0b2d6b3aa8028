//go:build cluster

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// awaitWarning waits until there is a Warning on a Service with a text in it, found as `kubectl describe` finds it, and
// checks what else it says. There must never be two.
func (w *world) awaitWarning(t *testing.T, s *corev1.Service, text string) {
	t.Helper()
	var found []corev1.Event
	eventually(t, func() error {
		all, err := w.api.CoreV1().Events(namespace).SearchWithContext(t.Context(), scheme.Scheme, s)
		if err != nil {
			return err
		}
		var notes []string
		found = nil
		for _, e := range all.Items {
			if strings.Contains(e.Message, text) {
				found = append(found, e)
			}
			notes = append(notes, e.Message)
		}
		if len(found) == 0 {
			return fmt.Errorf("no Event on %s says %q; there are %q", s.Name, text, notes)
		}
		return nil
	})
	e := found[0]
	if len(found) > 1 || e.Type != corev1.EventTypeWarning || e.Reason != "NotServed" || e.EventTime.IsZero() ||
		e.ReportingController != "kube-ipvs" || e.ReportingInstance != "kube-ipvs-"+nodeName {
		t.Errorf("%d Events on %s, want one Warning NotServed of kube-ipvs: %+v", len(found), s.Name, found)
	}
}

// existing returns how many Events kube-ipvs found created already.
func (w *world) existing(t *testing.T) float64 {
	t.Helper()
	return w.metrics(t, `kube_ipvs_events_total{result="existing"}`)[0].value
}

func testConflict(t *testing.T, w *world) {
	const ip = "203.0.113.40"
	has := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{ip} }
	older := w.create(t, "conflict-a", has) // of two from one second it counts as the older: its name comes first
	w.slices(t, older, ready("pod1"))
	w.node.await(t, "client", at(older, 80, ip), "pod1 saw node1")
	younger := w.create(t, "conflict-b", has)
	w.slices(t, younger, ready("pod2"))
	w.awaitWarning(t, younger, "203.0.113.40:80 (tcp): is served for the older Service default/conflict-a")
	w.node.await(t, "asker", clusterIPs(younger), "pod2 saw asker")
	w.node.still(t, "client", at(older, 80, ip), "pod1 saw node1")
	w.remove(t, older.Name)
	w.node.await(t, "client", at(younger, 80, ip), "pod2 saw node1")
}

func testBadField(t *testing.T, w *world) {
	const good, other, bad = "203.0.113.50", "203.0.113.51", "127.0.0.1"
	const says = "status.loadBalancer.ingress[0].ip: 127.0.0.1 is a loopback address"
	s := w.create(t, "bad", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	w.slices(t, s, ready("pod1"))
	before := w.existing(t)
	for times, ip := range []string{good, other} {
		w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, ip) // nothing is wrong with it
		w.node.await(t, "client", at(s, 80, ip), "pod1 saw node1")
		w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, bad, ip)
		w.awaitWarning(t, s, says)
		w.awaitExisting(t, before+float64(times))
		w.node.still(t, "client", at(s, 80, ip), "pod1 saw node1")
	}
	w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, bad, other, good) // which is no news of what is wrong
	w.node.await(t, "client", at(s, 80, good), "pod1 saw node1")
	w.terminate(t)
	w.node.start(t)
	w.awaitStatus(t, "http://"+nodeHost+":10256/livez", http.StatusOK)
	w.awaitExisting(t, 1) // it counts from 0 again
	w.awaitWarning(t, s, says)
}

// awaitExisting waits until kube-ipvs has found so many Events created already.
func (w *world) awaitExisting(t *testing.T, want float64) {
	t.Helper()
	eventually(t, func() error {
		if got := w.existing(t); got != want {
			return fmt.Errorf("%v Events existed already, want %v", got, want)
		}
		return nil
	})
}
