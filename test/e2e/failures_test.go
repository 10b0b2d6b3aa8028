//go:build cluster

package e2e_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// keep creates a Service that pod1 serves, and waits until it does.
func (w *world) keep(t *testing.T, name string) *corev1.Service {
	t.Helper()
	s := w.create(t, name)
	w.slices(t, s, ready("pod1"))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
	return s
}

func testKilled(t *testing.T, w *world) {
	stays, goes := w.keep(t, "stays"), w.keep(t, "goes")
	if how := w.node.end(t, int(unix.SIGKILL)); how != "signal: killed" {
		t.Errorf("after SIGKILL: %s", how)
	}
	w.remove(t, goes.Name)
	comes := w.create(t, "comes")
	w.slices(t, comes, ready("pod2"))
	w.slices(t, stays, ready("pod1", "pod2"))
	for _, s := range []*corev1.Service{stays, goes} {
		w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	}
	w.node.start(t)
	w.node.await(t, "asker", clusterIPs(goes), "refused")
	w.node.await(t, "asker", clusterIPs(comes), "pod2 saw asker")
	w.node.await(t, "asker", clusterIPs(stays), "pod1 pod2 saw asker")
}

func testTerminated(t *testing.T, w *world) {
	s := w.keep(t, "stays")
	if how := w.node.end(t, int(unix.SIGTERM)); how != "exit status 0" {
		t.Errorf("after SIGTERM: %s, want exit status 0", how)
	}
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	w.node.still(t, "client", clusterIPs(s), "pod1 saw node1")
	w.node.start(t)
	w.slices(t, s, ready("pod2"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
}

// testOutage: the API server crashes and comes back. What was served is served meanwhile, and the watches go on.
func testOutage(t *testing.T, w *world) {
	s := w.keep(t, "stays")
	must(t, w.cluster.StopServer())
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	time.Sleep(2 * time.Second) // so that kube-ipvs has noticed
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	must(t, w.cluster.StartServer(t.Context()))
	back := time.Now()
	w.slices(t, s, ready("pod2"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
	t.Logf("a change was served %v after the API server was back", time.Since(back).Round(time.Millisecond))
}

// testColdStart: kube-ipvs is killed and starts again while the API server is away. It must not touch what serves.
func testColdStart(t *testing.T, w *world) {
	s := w.keep(t, "stays")
	must(t, w.cluster.StopServer())
	w.node.end(t, int(unix.SIGKILL))
	w.node.start(t)
	time.Sleep(5 * time.Second) // it has tried to read what is wanted, and could not
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	must(t, w.cluster.StartServer(t.Context()))
	w.node.await(t, "asker", clusterIPs(s), "pod1 saw asker")
	w.slices(t, s, ready("pod2"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
}
