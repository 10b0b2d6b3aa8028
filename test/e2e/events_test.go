//go:build cluster

package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// awaitWarning waits until a Warning on a Service with a text in it has been counted so often, in the API group that
// kubectl reads first.
func (w *world) awaitWarning(t *testing.T, s *corev1.Service, text string, count int32) {
	t.Helper()
	eventually(t, func() error {
		all, err := w.api.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var notes []string
		for _, e := range all.Items {
			if e.Regarding.Kind != "Service" || e.Regarding.UID != s.UID {
				continue
			}
			if e.Type == corev1.EventTypeWarning && e.Reason == "NotServed" && strings.Contains(e.Note, text) && counted(e) == count {
				return nil
			}
			notes = append(notes, fmt.Sprintf("%s %s (%d times)", e.Reason, e.Note, counted(e)))
		}
		return fmt.Errorf("no Warning NotServed on %s says %q %d times; there are %q", s.Name, text, count, notes)
	})
}

func counted(e eventsv1.Event) int32 {
	if e.Series == nil {
		return 1
	}
	return e.Series.Count
}

func testConflict(t *testing.T, w *world) {
	const ip = "203.0.113.40"
	has := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{ip} }
	older := w.create(t, "conflict-a", has) // of two from one second it counts as the older: its name comes first
	w.slices(t, older, ready("pod1"))
	w.node.await(t, "client", at(older, 80, ip), "pod1 saw node1")
	younger := w.create(t, "conflict-b", has)
	w.slices(t, younger, ready("pod2"))
	w.awaitWarning(t, younger, "203.0.113.40:80 (tcp): is served for the older Service default/conflict-a", 1)
	w.node.await(t, "asker", clusterIPs(younger), "pod2 saw asker")
	w.node.still(t, "client", at(older, 80, ip), "pod1 saw node1")
	w.remove(t, older.Name)
	w.node.await(t, "client", at(younger, 80, ip), "pod2 saw node1")
}

func testBadField(t *testing.T, w *world) {
	const good, other, bad = "203.0.113.50", "203.0.113.51", "127.0.0.1"
	s := w.create(t, "bad", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	w.slices(t, s, ready("pod1"))
	for times, ip := range []string{good, other} {
		w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, ip) // nothing is wrong with it
		w.node.await(t, "client", at(s, 80, ip), "pod1 saw node1")
		w.balance(t, s.Name, corev1.LoadBalancerIPModeVIP, bad, ip)
		w.awaitWarning(t, s, "status.loadBalancer.ingress[0].ip: 127.0.0.1 is a loopback address", int32(times)+1)
		w.node.still(t, "client", at(s, 80, ip), "pod1 saw node1")
	}
}
