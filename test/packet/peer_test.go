//go:build kernel && compare

package packet

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
)

// A peer is kube-proxy in the place of kube-ipvs.
type peer struct {
	t     *testing.T
	api   *kubeproxy.API
	proxy *kubeproxy.Proxy
}

// startPeer runs kube-proxy until the test ends. Then all that is kube-proxy's is removed from the kernel.
func startPeer(t *testing.T, w *world, mode string) *peer {
	t.Helper()
	forget(t)
	p := &peer{t: t}
	program, err := filepath.Abs("../../.bin/kube-proxy")
	p.must(err)
	p.api, err = kubeproxy.NewAPI()
	p.must(err)
	t.Cleanup(func() { p.must(p.api.Close()) })
	p.must(p.api.Set(
		kubeproxy.Node("node1", w.Node.Addr(false), w.Node.Addr(true)),
		kubeproxy.ServiceCIDR(lab.Services[0].Prefix(false), lab.Services[0].Prefix(true)),
	))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.proxy, err = kubeproxy.Start(ctx, p.api, kubeproxy.Config{
		Program: program, Mode: mode, Node: "node1", ClusterCIDRs: clusterCIDR.Prefixes, Log: filepath.Join(t.TempDir(), "log"),
	})
	p.must(err)
	t.Cleanup(func() {
		p.must(p.proxy.Stop())
		p.must(kubeproxy.Clean(context.Background(), program))
	})
	return p
}

func (p *peer) set(svc plan.Service, slices ...plan.Slice) {
	p.t.Helper()
	p.must(p.api.Set(kubeproxy.Service(svc)))
	for n, slice := range slices {
		if object, ok := kubeproxy.Slice(n, slice); ok {
			p.must(p.api.Set(object))
		}
	}
}

func (p *peer) settle() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	p.must(p.proxy.Settle(ctx))
}

func (p *peer) nodeAddresses() []netip.Addr {
	own, err := node.Addresses(context.Background())
	p.must(err)
	return own
}

func (p *peer) must(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}
