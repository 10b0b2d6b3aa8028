//go:build cluster

package plugin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// A kubelet serves /exec as a node's kubelet does, with the library that container runtimes use for it: it runs a program here, and
// gives it the socket of the pod's kube-ipvs.
type kubelet struct {
	*httptest.Server
	program string
	sockets map[string]string // of the pods' kube-ipvs; "": nothing answers there

	mu      sync.Mutex
	hanging map[string]bool // pods whose commands do not end
	ran     []string
}

func newKubelet(t *testing.T, program string) *kubelet {
	t.Helper()
	k := &kubelet{program: program, sockets: map[string]string{}, hanging: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, k, r.PathValue("pod"), "", r.PathValue("container"), r.URL.Query()["command"], options,
			time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
	})
	k.Server = httptest.NewTLSServer(mux)
	t.Cleanup(k.Close)
	return k
}

// port returns where the kubelet listens.
func (k *kubelet) port() int32 { return int32(k.Listener.Addr().(*net.TCPAddr).Port) }

// ExecInContainer implements remotecommand.Executor.
func (k *kubelet) ExecInContainer(ctx context.Context, pod, _, container string, command []string, _ io.Reader, out, errs io.WriteCloser, _ bool,
	_ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	k.mu.Lock()
	k.ran = append(k.ran, fmt.Sprintf("%s/%s: %s", pod, container, strings.Join(command, " ")))
	hangs := k.hanging[pod]
	k.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if command[0] != "kube-ipvs" || container != "kube-ipvs" {
		return fmt.Errorf("no container %s has a program %s", container, command[0])
	}
	cmd := exec.CommandContext(ctx, k.program, append(slices.Clone(command[1:]), "--socket="+k.sockets[pod])...)
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Run()
	if ended, is := err.(*exec.ExitError); is {
		return utilexec.CodeExitError{Err: err, Code: ended.ExitCode()}
	}
	return err
}

// commands returns all commands that were run in pods.
func (k *kubelet) commands() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.ran)
}

// forget forgets the commands that were run so far.
func (k *kubelet) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ran = nil
}

// hang lets the commands of a pod not end, or end again.
func (k *kubelet) hang(pod string, hangs bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hanging[pod] = hangs
}
