//go:build cluster

package e2e_test

import (
	"errors"
	"strings"
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

// testOutage: the API server crashes and comes back. What was served is served meanwhile, and the watches go on.
func testOutage(t *testing.T, w *world) {
	s := w.keep(t, "stays")
	w.withoutServer(t, func() { w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker") })
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	back := time.Now()
	w.slices(t, s, ready("pod2"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
	t.Logf("a change was served %v after the API server was back", time.Since(back).Round(time.Millisecond))
}

// withoutServer does something while the API server is away, and brings it back.
func (w *world) withoutServer(t *testing.T, do func()) {
	t.Helper()
	must(t, w.cluster.StopServer())
	defer func() { check(t, w.cluster.StartServer(t.Context())) }()
	do()
}

// testTerminated: what kube-ipvs leaves when it is asked to end goes on, and it goes on from there.
func testTerminated(t *testing.T, w *world) {
	s := w.keep(t, "stays")
	w.terminate(t)
	w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
	w.node.still(t, "client", clusterIPs(s), "pod1 saw node1")
	w.node.start(t)
	w.slices(t, s, ready("pod2"))
	w.node.await(t, "asker", clusterIPs(s), "pod2 saw asker")
}

// terminate asks kube-ipvs to end.
func (w *world) terminate(t *testing.T) {
	t.Helper()
	if how := w.node.end(t, int(unix.SIGTERM)); how != "exit status 0" {
		t.Errorf("after SIGTERM: %s, want exit status 0", how)
	}
}

// testKilled: kube-ipvs is killed, and starts again while the API server is away. It must not touch what serves until it
// knows what is wanted; then what changed meanwhile is done, and what is wanted no more goes.
func testKilled(t *testing.T, w *world) {
	stays, goes := w.keep(t, "stays"), w.keep(t, "goes")
	if how := w.node.end(t, int(unix.SIGKILL)); how != "signal: killed" {
		t.Errorf("after SIGKILL: %s", how)
	}
	w.remove(t, goes.Name)
	comes := w.create(t, "comes")
	w.slices(t, comes, ready("pod2"))
	w.slices(t, stays, ready("pod1", "pod2"))
	w.withoutServer(t, func() {
		w.node.start(t)
		w.awaitLog(t, "connection refused")
		for _, s := range []*corev1.Service{stays, goes} {
			w.node.still(t, "asker", clusterIPs(s), "pod1 saw asker")
		}
	})
	w.node.await(t, "asker", clusterIPs(goes), "refused")
	w.node.await(t, "asker", clusterIPs(comes), "pod2 saw asker")
	w.node.await(t, "asker", clusterIPs(stays), "pod1 pod2 saw asker")
}

// awaitLog waits until kube-ipvs has logged something, for the first time of all its lives.
func (w *world) awaitLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if log := w.node.get(t, "/log", nil); !strings.Contains(log, text) {
			return errors.New("kube-ipvs does not log: " + text)
		}
		return nil
	})
}
