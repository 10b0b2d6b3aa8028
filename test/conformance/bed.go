package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/test/cluster"
)

// A bed is a cluster to test in: a control plane and the cluster's DNS in a network namespace here, the nodes as network
// namespaces in a test kernel.
type bed struct {
	setting
	cluster *cluster.Cluster
	client  *kubernetes.Clientset
	down    <-chan struct{} // closed when the nodes, or what is around them, are gone
}

// startBed starts a cluster with that service proxy. It returns when all nodes are ready, and the proxy is on each.
func startBed(ctx context.Context, s setting) (*bed, error) {
	for _, folder := range []string{s.logs(), s.results()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	c, err := cluster.Start(ctx, cluster.Config{Namespace: true, Pods: true})
	if err != nil {
		return nil, err
	}
	b := &bed{setting: s, cluster: c}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start nodes; logs are in %s: %w", s.logs(), err), c.Close())
	}
	return b, nil
}

func (b *bed) start(ctx context.Context) error {
	admin, err := b.cluster.Admin()
	if err != nil {
		return err
	}
	if b.client, err = admin.Client(); err != nil {
		return err
	}
	if err := admin.WriteKubeconfig(b.kubeconfig()); err != nil {
		return err
	}
	if err := b.cluster.StartControllers(ctx, b.logs()); err != nil {
		return err
	}
	if err := b.createNodes(ctx); err != nil {
		return err
	}
	if err := b.startDNS(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runner, err := cluster.Build(ctx, "inkernel")
	if err != nil {
		return err
	}
	outside, err := b.cluster.Run("outside", b.logs(), self, append([]string{"outside"}, b.args()...)...)
	if err != nil {
		return err
	}
	inside := append([]string{"-kernel=uml", "-net=tap=" + cluster.TapName, "-mem=6G", "-timeout=24h", self, "nodes"}, b.args()...)
	nodes, err := b.cluster.Run("nodes", b.logs(), runner, inside...)
	if err != nil {
		return err
	}
	b.down = first(outside, nodes)
	if err := b.waitNodes(ctx); err != nil {
		return err
	}
	return b.deploy(ctx)
}

// first returns a channel that is closed when one of the two is.
func first(a, b <-chan struct{}) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		select {
		case <-a:
		case <-b:
		}
	}()
	return c
}

// close ends everything.
func (b *bed) close() error { return b.cluster.Close() }

// createNodes says which pod addresses and which service proxy each node has; the kubelets say the rest.
func (b *bed) createNodes(ctx context.Context) error {
	for _, n := range b.nodes() {
		object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{proxyLabel: b.name}}}
		for _, p := range n.pods {
			object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, p.String())
		}
		object.Spec.PodCIDR = object.Spec.PodCIDRs[0]
		if _, err := b.client.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// startDNS starts CoreDNS, which is no pod here, and makes the Service and the EndpointSlice that lead to it.
func (b *bed) startDNS(ctx context.Context) error {
	const corefile = `.:53 {
	errors
	cache 5
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		pods insecure
		ttl 5
	}
}
`
	path := filepath.Join(b.state, "Corefile")
	if err := os.WriteFile(path, fmt.Appendf(nil, corefile, b.kubeconfig()), 0o644); err != nil {
		return err
	}
	if _, err := b.cluster.Run("dns", b.logs(), filepath.Join(b.bin, "dns"), "-conf="+path); err != nil {
		return err
	}
	objects, err := cluster.ReadObjects(filepath.Join("test", "conformance", "dns.yaml"))
	if err != nil {
		return err
	}
	return b.cluster.Apply(ctx, objects)
}

// waitNodes returns when all nodes are ready.
func (b *bed) waitNodes(ctx context.Context) error {
	return b.until(ctx, "all nodes are ready", func() (bool, error) {
		list, err := b.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err == nil && len(ready(list.Items)) == b.count, err
	})
}

// lastWords returns as an error why the nodes, or what is around them, are gone.
func (b *bed) lastWords() error {
	nodes, err1 := os.ReadFile(filepath.Join(b.logs(), "nodes.log"))
	outside, err2 := os.ReadFile(filepath.Join(b.logs(), "outside.log"))
	return errors.Join(fmt.Errorf("the nodes are gone: %s%s", nodes, outside), err1, err2)
}
