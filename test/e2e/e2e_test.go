//go:build cluster

// Package e2e_test runs kube-ipvs against a real API server, with the rights that deploy/ grants and no others: real objects
// go in, and packets say what came of them. The node is a test kernel beside the API server; an agent in it sends the
// packets (test/e2e/agent).
package e2e_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestEndToEnd tells one story after the other to one cluster, since a start takes long. Each removes what it made.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	w.node.start(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *world)
	}{
		{"a Service comes, changes and goes", testLife},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, w) })
	}
}

func testLife(t *testing.T, w *world) {
	s := w.create(t, "life")
	ips := clusterIPs(s)
	w.node.await(t, "asker", ips, "refused")
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", ips, "pod1 saw asker")
	w.slices(t, s, ready("pod1", "pod3"))
	w.node.await(t, "asker", ips, "pod1 pod3 saw asker")
	w.node.await(t, "client", ips, "pod1 pod3 saw node1")
	w.slices(t, s, ready("pod3"))
	w.node.await(t, "asker", ips, "pod3 saw asker")
	s = w.update(t, "life", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 })
	w.node.await(t, "asker", clusterIPs(s), "pod3 saw asker")
	w.node.await(t, "asker", ips, "refused")
	w.remove(t, "life")
	w.node.await(t, "asker", clusterIPs(s), "refused")
}
