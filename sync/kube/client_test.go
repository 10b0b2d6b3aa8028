package kube

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

const kubeconfig = `
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://10.0.0.1:6443"}}]
users: [{name: u, user: {token: t}}]
`

func TestConnection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	type settings struct {
		Host, Token, UserAgent, ContentType, Accept string
		QPS                                         float32
		Burst                                       int
	}
	const protobuf, json = "application/vnd.kubernetes.protobuf", "application/json"
	for name, c := range map[string]struct {
		in   Connection
		want settings
	}{
		"kubeconfig": {Connection{Kubeconfig: file, QPS: 50, Burst: 100, Version: "v1.0.0"},
			settings{"https://10.0.0.1:6443", "t", "kube-ipvs/v1.0.0", protobuf, protobuf + "," + json, 50, 100}},
		"master before kubeconfig": {Connection{Kubeconfig: file, Master: "https://10.0.0.2", Version: "v1.0.0"},
			settings{"https://10.0.0.2", "t", "kube-ipvs/v1.0.0", protobuf, protobuf + "," + json, 0, 0}},
		"master alone, JSON": {Connection{Master: "http://10.0.0.2:8080", ContentType: json, Version: "v1.0.0"},
			settings{"http://10.0.0.2:8080", "", "kube-ipvs/v1.0.0", json, json, 0, 0}},
		"answers of another type": {Connection{Master: "http://10.0.0.2:8080", Accept: json, Version: "v1.0.0"},
			settings{"http://10.0.0.2:8080", "", "kube-ipvs/v1.0.0", protobuf, json, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.in.Config()
			if err != nil {
				t.Fatal(err)
			}
			have := settings{got.Host, got.BearerToken, got.UserAgent, got.ContentType, got.AcceptContentTypes, got.QPS, got.Burst}
			if diff := cmp.Diff(c.want, have); diff != "" {
				t.Error(diff)
			}
			if got.Timeout != 0 {
				t.Errorf("watches would end after %v", got.Timeout)
			}
			if _, err := c.in.Client(); err != nil {
				t.Error(err)
			}
			// The limit does not delay Events, and Events delay nothing else.
			events, err := c.in.Events()
			if err != nil {
				t.Fatal(err)
			}
			if limit := events.RESTClient().GetRateLimiter(); limit != nil {
				t.Errorf("Events have the limit of %v a second", limit.QPS())
			}
		})
	}
}

func TestConnectionErrors(t *testing.T) {
	if _, err := (Connection{Kubeconfig: filepath.Join(t.TempDir(), "none")}).Client(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := (Connection{}).Client(); !errors.Is(err, rest.ErrNotInCluster) {
		t.Errorf("outside a cluster: %v", err)
	}
}
