package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
)

// TestLocate keeps a service proxy from asking for Services at an address that it has to make work itself.
func TestLocate(t *testing.T) {
	const account = "ca.crt"
	one, two := authority(t), authority(t)
	type server struct{ Host, Name, CAFile, CAData string }
	with := func(authority string) string {
		return kubelet(`{server: "https://10.0.0.1:6443", certificate-authority-data: ` + base64.StdEncoding.EncodeToString([]byte(authority)) + `}`)
	}
	for _, tt := range []struct {
		name    string
		kubelet string // the kubelet's kubeconfig
		host    string // KUBERNETES_SERVICE_HOST
		port    string // KUBERNETES_PORT
		ca      string // in the file of the service account
		want    server
		err     string
	}{
		{name: "the environment names a load balancer", host: "api.example.com", port: "tcp://10.96.0.1:443",
			want: server{Host: "https://api.example.com:443", CAFile: account}},
		{name: "the environment has the cluster IP", host: "10.96.0.1", port: "tcp://10.96.0.1:443",
			err: "https://10.96.0.1:443: that is a cluster IP"},
		{name: "the same of IPv6", host: "fd00::1", port: "tcp://[fd00::1]:443",
			err: "https://[fd00::1]:443: that is a cluster IP"},
		{name: "no Service in the environment", host: "10.0.0.1", want: server{Host: "https://10.0.0.1:443", CAFile: account}},
		{name: "both have the authority, and the account's is read again", host: "10.96.0.1", ca: one, kubelet: with(one),
			want: server{Host: "https://10.0.0.1:6443", CAFile: account}},
		{name: "the account has the next one, too", host: "10.96.0.1", ca: two + one, kubelet: with("\n" + one),
			want: server{Host: "https://10.0.0.1:6443", CAFile: account}},
		{name: "the kubelet has the next one, too", host: "10.96.0.1", ca: one, kubelet: with(one + two),
			want: server{Host: "https://10.0.0.1:6443", CAData: one + two}},
		{name: "the kubelet's file has the authority alone", host: "10.96.0.1", port: "tcp://10.96.0.1:443",
			kubelet: kubelet(`{server: "https://10.0.0.1:6443", certificate-authority-data: YQ==, tls-server-name: kubernetes}`),
			want:    server{Host: "https://10.0.0.1:6443", Name: "kubernetes", CAData: "a"}},
		{name: "the kubelet's file names a file of the node", host: "10.96.0.1", port: "tcp://10.96.0.1:443",
			kubelet: kubelet(`{server: "https://127.0.0.1:6444", certificate-authority: /var/lib/rancher/k3s/agent/server-ca.crt}`),
			want:    server{Host: "https://127.0.0.1:6444", CAFile: account}},
		{name: "no server", kubelet: kubelet(`{}`), err: `kubelet.conf: the cluster "k" has no server`},
		{name: "no context", kubelet: "apiVersion: v1\nkind: Config\ncurrent-context: c\n", err: `kubelet.conf: there is no context "c"`},
		{name: "no kubeconfig", kubelet: "]", err: "kubelet.conf: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", tt.host)
			t.Setenv("KUBERNETES_PORT", tt.port)
			dir, path := t.TempDir(), ""
			write := func(name, text string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			if tt.kubelet != "" {
				path = write("kubelet.conf", tt.kubelet)
			}
			host := tt.host
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			cfg := &rest.Config{Host: "https://" + host + ":443", TLSClientConfig: rest.TLSClientConfig{CAFile: write(account, tt.ca)}}
			err := locate(cfg, path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, server{cfg.Host, cfg.ServerName, strings.TrimPrefix(cfg.CAFile, dir+"/"), string(cfg.CAData)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if cfg.BearerToken != "" || cfg.CertFile != "" || cfg.KeyFile != "" {
				t.Error("it took the kubelet's credentials")
			}
		})
	}
}

// kubelet returns a kubeconfig of the kubelet.
func kubelet(cluster string) string {
	return `
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: ` + cluster + `}]
users: [{name: u, user: {token: t, client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem}}]
`
}

// authority returns the certificate of a new authority.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: c.Raw}))
}
