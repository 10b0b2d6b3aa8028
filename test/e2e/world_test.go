//go:build cluster

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"kube-ipvs/test/cluster"
	"kube-ipvs/test/lab"
)

// A world is a cluster with one node, on which kube-ipvs runs.
type world struct {
	cluster *cluster.Cluster
	api     *kubernetes.Clientset // who may do everything
	node    node
}

// nodeName is the node's name in the API and in the laboratory.
const nodeName = "node1"

// newWorld starts the control plane, applies deploy/, registers the node and boots it. Kube-ipvs does not run yet.
func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Config{Namespace: true})
	must(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	admin, err := c.Admin()
	must(t, err)
	config := admin.Config()
	config.WarningHandler = rest.NoWarnings{} // it knows that externalIPs are deprecated
	w := &world{cluster: c}
	w.api, err = kubernetes.NewForConfig(config)
	must(t, err)

	objects, err := cluster.ReadObjects("../../deploy/manifests/standalone.yaml")
	must(t, err)
	must(t, c.Apply(t.Context(), objects))
	must(t, c.CreateNode(t.Context(), cluster.Node{
		Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: "a"},
		Addresses: []netip.Addr{nodeAddress[0], nodeAddress[1]},
		PodCIDRs:  []netip.Prefix{lab.Pods[0], lab.Pods[1]},
	}))
	w.node.http = &http.Client{Transport: &http.Transport{DialContext: config.Dial}}
	w.boot(t)
	return w
}

// flags are kube-ipvs's, beside --kubeconfig. Its answers can be read from outside of the kernel.
var flags = []string{
	"--hostname-override=" + nodeName,
	"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
	"--metrics-bind-address=0.0.0.0:10249",
}

// boot boots the node and waits for its agent.
func (w *world) boot(t *testing.T) {
	t.Helper()
	account, err := w.cluster.ServiceAccount(t.Context(), "kube-system", "kube-ipvs")
	must(t, err)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, account.WriteKubeconfig(kubeconfig))
	agent, err := cluster.Build(t.Context(), "agent")
	must(t, err)
	program, err := cluster.Build(t.Context(), "kube-ipvs")
	must(t, err)

	args := append([]string{agentAddress, program, "--kubeconfig=" + kubeconfig}, flags...)
	kernel, err := w.cluster.InKernel(t.Context(), agent, args...)
	must(t, err)
	var said bytes.Buffer
	kernel.Stdout, kernel.Stderr = &said, &said
	must(t, kernel.Start())
	ended := make(chan error, 1)
	go func() { ended <- kernel.Wait() }()
	t.Cleanup(func() { shutDown(t, kernel, ended) })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		answer, err := w.node.http.Get("http://" + agentAddress)
		if err == nil {
			check(t, answer.Body.Close())
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the node ended: %v\n%s", err, &said)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node's agent: %v", err)
		}
	}
}

// shutDown ends the node, if it has not ended by itself.
func shutDown(t *testing.T, kernel *exec.Cmd, ended chan error) {
	err := kernel.Process.Signal(unix.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return
	}
	check(t, err)
	<-ended // with the signal, which is no news
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// settle is how long a change may take to show, or kube-ipvs to start. On a quiet machine these are a tenth of a second and
// three; in the test kernel, on a machine with other work, a start was seen to take half a minute.
const settle = time.Minute

// eventually waits until something is as it should be.
func eventually(t *testing.T, look func() error) {
	t.Helper()
	for deadline := time.Now().Add(settle); ; time.Sleep(100 * time.Millisecond) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// awaitStatus waits until the node answers at a URL with a status.
func (w *world) awaitStatus(t *testing.T, url string, status int) {
	t.Helper()
	eventually(t, func() error {
		answer, err := w.node.http.Get(url)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != status {
			return fmt.Errorf("%s: %s, want %d", url, answer.Status, status)
		}
		return nil
	})
}
