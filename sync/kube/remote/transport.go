package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// A transport carries HTTP requests to the kube-ipvs of one node: it runs "kube-ipvs get --raw" in its pod, which asks at the local
// socket.
//
// The API server's proxy of pods would be simpler, but reaches ports only, and what the socket answers is at none: who reached it
// could read it.
type transport struct {
	cluster *Cluster
	pod     string
}

// Transport returns the transport to the kube-ipvs of a node that has a pod.
func (c *Cluster) Transport(n Node) http.RoundTripper { return &transport{cluster: c, pod: n.Pod} }

// maxAnswer bounds an answer. A page of 1,000 Services with 100 endpoints each is half of it.
const maxAnswer = 64 << 20

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	command := []string{"kube-ipvs", "get", "--raw", request.URL.RequestURI()}
	if socket := t.cluster.pods.socket; socket != "" {
		command = append(command, "--socket", socket)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(request.Context(), t.cluster.timeout)
	defer cancel()
	answer, problems := &bounded{max: maxAnswer}, &bounded{max: 1 << 12}
	err := t.cluster.exec(ctx, t.pod, command, answer, problems)
	code := http.StatusOK
	var status exec.CodeExitError
	switch {
	case errors.As(err, &status) && status.Code == 1 && answer.Len() > 0: // the answer is a Status
		code = http.StatusServiceUnavailable
	case errors.As(err, &status) && problems.Len() > 0:
		return nil, errors.New(strings.TrimSpace(problems.String()))
	case err != nil && time.Since(begin) >= t.cluster.timeout: // whatever noticed it first: the context, or the connection
		return nil, fmt.Errorf("no answer within %v (--request-timeout)", t.cluster.timeout)
	case err != nil:
		return nil, err
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(&answer.Buffer), Request: request}, nil
}

// exec runs a command in a pod.
func (c *Cluster) exec(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error {
	url := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.pods.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: c.pods.container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	websocket, err := remotecommand.NewWebSocketExecutor(c.config, http.MethodGet, url.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(c.config, http.MethodPost, url)
	if err != nil {
		return err
	}
	// As kubectl does: a proxy on the way may not let WebSockets pass.
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: stdout, Stderr: stderr})
}

// bounded is a buffer that takes no more than so many bytes.
type bounded struct {
	bytes.Buffer
	max int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, fmt.Errorf("answer of more than %d bytes", b.max)
	}
	return b.Buffer.Write(p)
}
