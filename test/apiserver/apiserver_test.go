//go:build cluster

// Package apiserver lets the source of Services live through what happens to a real API server.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"

	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/cluster"
)

// A world is a control plane and the source under test.
type world struct {
	t       *testing.T
	cluster *cluster.Cluster
	admin   *kubernetes.Clientset
	source  *kube.Source
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Config{})
	check(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	admin, err := c.AdminClient()
	check(t, err)
	check(t, c.CreateNode(t.Context(), cluster.Node{Name: "node1"}))
	return &world{t: t, cluster: c, admin: admin}
}

// watch starts the source as the program does, with a kubeconfig file.
func (w *world) watch(edits ...func(*clientcmdapi.Config)) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "kubeconfig")
	user, err := w.cluster.Admin()
	check(w.t, err)
	check(w.t, user.WriteKubeconfig(file))
	for _, edit := range edits {
		config, err := clientcmd.LoadFromFile(file)
		check(w.t, err)
		edit(config)
		check(w.t, clientcmd.WriteToFile(*config, file))
	}
	client, err := kube.Connection{Kubeconfig: file, QPS: 5, Burst: 10}.Client()
	check(w.t, err)
	w.source = kube.New(kube.Config{Client: client, NodeName: "node1"}, quiet{})
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.source.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("the source ended: %v", err)
		}
	})
}

// quiet is a source's handler. The test asks the source itself.
type quiet struct{}

func (quiet) Synced()                    {}
func (quiet) ServiceChanged(plan.Name)   {}
func (quiet) EndpointsChanged(plan.Name) {}
func (quiet) NodeChanged()               {}

// put makes a Service with one endpoint, or changes its port and its endpoint.
func (w *world) put(name string, n int) {
	w.t.Helper()
	ctx := w.t.Context()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "p", Port: int32(n)}}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.244.0.%d", n)}}},
	}
	services, slices := w.admin.CoreV1().Services("default"), w.admin.DiscoveryV1().EndpointSlices("default")
	old, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		_, err = services.Create(ctx, svc, metav1.CreateOptions{})
		check(w.t, err)
		_, err = slices.Create(ctx, slice, metav1.CreateOptions{})
		check(w.t, err)
		return
	}
	old.Spec.Ports[0].Port = int32(n)
	_, err = services.Update(ctx, old, metav1.UpdateOptions{})
	check(w.t, err)
	_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	check(w.t, err)
}

func (w *world) remove(name string) {
	w.t.Helper()
	check(w.t, w.admin.CoreV1().Services("default").Delete(w.t.Context(), name, metav1.DeleteOptions{}))
	check(w.t, w.admin.DiscoveryV1().EndpointSlices("default").Delete(w.t.Context(), name, metav1.DeleteOptions{}))
}

// known is what the source says of the Services that put makes: their port and endpoint's number.
func (w *world) known() map[string]string {
	out := map[string]string{}
	for _, name := range w.source.Names() {
		if name.Name == "kubernetes" {
			continue
		}
		svc, slices, _ := w.source.Service(name)
		text := ""
		for _, p := range svc.Ports {
			text += fmt.Sprint(p.Port)
		}
		for _, s := range slices {
			for _, e := range s.Endpoints {
				text += fmt.Sprint(" ", e.Addr)
			}
		}
		out[name.Name] = text
	}
	return out
}

// knows fails the test unless the source knows these Services, by their numbers, in time.
func (w *world) knows(limit time.Duration, want map[string]int) {
	w.t.Helper()
	full := map[string]string{}
	for name, n := range want {
		full[name] = fmt.Sprintf("%d 10.244.0.%d", n, n)
	}
	w.until(limit, func() string { return cmp.Diff(full, w.known()) })
}

// until waits until nothing differs, and fails the test with the difference if that takes longer.
func (w *world) until(limit time.Duration, differs func() string) {
	w.t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		diff := differs()
		if diff == "" {
			w.t.Logf("after %v", time.Since(begin).Round(time.Millisecond))
			return
		}
		if time.Since(begin) > limit {
			w.t.Fatalf("what the source knows after %v (-want +got):\n%s", limit, diff)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An API server that was restored from a backup gives versions anew that it has given before. A watch from a version that it has
// not given yet is silent until it has, which may take hours.
func TestRestoredFromBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("stays", 1)
	w.put("changes", 1)
	w.put("goes", 1)
	folder := filepath.Join(t.TempDir(), "backup")
	check(t, w.cluster.Backup(t.Context(), folder))
	w.watch()
	w.knows(time.Minute, map[string]int{"stays": 1, "changes": 1, "goes": 1})
	w.put("changes", 2)
	w.remove("goes")
	for n := range 30 {
		w.put("new", n+1)
	}
	w.knows(time.Minute, map[string]int{"stays": 1, "changes": 2, "new": 30})
	check(t, w.cluster.Restore(t.Context(), folder))
	w.knows(2*time.Minute, map[string]int{"stays": 1, "changes": 1, "goes": 1})
	w.put("changes", 3)
	w.knows(time.Minute, map[string]int{"stays": 1, "changes": 3, "goes": 1})
}

// A connection on which nothing arrives any more, and which nobody ends, is given up.
func TestConnectionThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("changes", 1)
	p := newPath(t, w.cluster.URL())
	w.watch(func(c *clientcmdapi.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server = p.url()
		}
	})
	w.knows(time.Minute, map[string]int{"changes": 1})
	if p.hang() == 0 {
		t.Fatal("the source has no connection")
	}
	w.put("changes", 2)
	w.knows(2*time.Minute, map[string]int{"changes": 2})
}

// A pod's token ends while the pod lives. Its file has another by then.
func TestTokenIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("changes", 1)
	file := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(file, []byte(w.account("first")), 0o600))
	w.watch(func(c *clientcmdapi.Config) {
		for _, user := range c.AuthInfos {
			*user = clientcmdapi.AuthInfo{TokenFile: file}
		}
	})
	w.knows(time.Minute, map[string]int{"changes": 1})
	check(t, os.WriteFile(file, []byte(w.account("second")), 0o600))
	check(t, w.admin.CoreV1().ServiceAccounts("default").Delete(t.Context(), "first", metav1.DeleteOptions{}))
	check(t, w.cluster.StopServer()) // or watches would go on for minutes
	check(t, w.cluster.StartServer(t.Context()))
	w.put("changes", 2)
	w.knows(2*time.Minute, map[string]int{"changes": 2})
}

// account makes a service account that may do everything, and returns its token.
func (w *world) account(name string) string {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	check(w.t, err)
	_, err = w.admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}},
	}, metav1.CreateOptions{})
	check(w.t, err)
	user, err := w.cluster.ServiceAccount(ctx, "default", name)
	check(w.t, err)
	return user.Config().BearerToken
}

// client-go looks at the files of a client certificate each five minutes, which is soon enough for one that lasts for hours.
func init() { transport.CertCallbackRefreshDuration = 5 * time.Second }

// A client certificate ends, too. Its files have another by then.
func TestCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("changes", 1)
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	renew := func(group string) {
		user, err := w.cluster.User("node1", group)
		check(t, err)
		check(t, os.WriteFile(key, user.Config().KeyData, 0o600))
		check(t, os.WriteFile(certificate, user.Config().CertData, 0o600))
	}
	renew("nobody")
	w.watch(func(c *clientcmdapi.Config) {
		for _, user := range c.AuthInfos {
			*user = clientcmdapi.AuthInfo{ClientCertificate: certificate, ClientKey: key}
		}
	})
	time.Sleep(2 * time.Second)
	w.knows(0, map[string]int{})
	renew("system:masters")
	w.knows(2*time.Minute, map[string]int{"changes": 1})
}

// A Service with many endpoints has many slices.
func TestManySlices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("many", 1)
	const slices, each = 100, 100
	for i := range slices {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("many-%03d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "many"}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
		for j := range each {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.245.%d.%d", i, j)}})
		}
		_, err := w.admin.DiscoveryV1().EndpointSlices("default").Create(t.Context(), s, metav1.CreateOptions{})
		check(t, err)
	}
	w.watch()
	name := plan.Name{Namespace: "default", Name: "many"}
	has := func(want int) {
		w.until(time.Minute, func() string {
			got := 0
			_, all, _ := w.source.Service(name)
			for _, s := range all {
				got += len(s.Endpoints)
			}
			return cmp.Diff(want, got)
		})
	}
	has(slices*each + 1)
	check(t, w.admin.DiscoveryV1().EndpointSlices("default").Delete(t.Context(), "many-050", metav1.DeleteOptions{}))
	has((slices-1)*each + 1)
}
