package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/plan"
)

// kubeProxyPorts are where kube-proxy answers unless its configuration has other addresses: metrics and healthz.
var kubeProxyPorts = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:10249"), netip.MustParseAddrPort("127.0.0.1:10256")}

// A rival is a kube-proxy that runs on this node.
type rival struct {
	at   netip.AddrPort // where it answers; not valid: there is none
	mode string         // as it names it; "": it did not say
}

// String returns the reason not to begin.
func (r rival) String() string {
	mode := ""
	if r.mode != "" {
		mode = " in mode " + r.mode
	}
	return fmt.Sprintf("kube-proxy runs on this node%s: it answers at %v", mode, r.at)
}

// findKubeProxy looks for a kube-proxy where it usually answers, and at our own addresses. It must not be called while this
// process listens there. A node has one that answers, or none that matters: a process that only has the port is not kube-proxy.
func findKubeProxy(ctx context.Context, cfg *config.Config) rival {
	var found rival
	for _, at := range slices.Concat(kubeProxyPorts, []netip.AddrPort{cfg.Metrics, cfg.Healthz}) {
		if !at.IsValid() {
			continue
		}
		if at.Addr().IsUnspecified() {
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
		}
		if mode := get(ctx, at, "/proxyMode"); slices.Contains([]string{"ipvs", "iptables", "nftables"}, mode) {
			return rival{at, mode}
		}
		if isHealth(get(ctx, at, "/healthz")) {
			found = rival{at: at}
		}
	}
	return found
}

// isHealth reports whether a body is that of kube-proxy's /healthz.
func isHealth(body string) bool {
	var health struct{ LastUpdated, CurrentTime string }
	return json.Unmarshal([]byte(body), &health) == nil && health.LastUpdated != "" && health.CurrentTime != ""
}

// get returns the answer at an address of this node, or "". Its status does not matter: a kube-proxy that is not healthy is one, too.
func get(ctx context.Context, at netip.AddrPort, path string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+path, nil)
	if err != nil {
		return ""
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// awaitKubeProxy waits for the end of a kube-proxy on this node, and reports it meanwhile. Two proxies would undo each other's work:
// in ipvs mode, kube-proxy deletes virtual servers that it does not know.
func (p *proxy) awaitKubeProxy(ctx context.Context) {
	const pause = 250 * time.Millisecond
	for ctx.Err() == nil {
		r := findKubeProxy(ctx, p.config)
		if !r.at.IsValid() {
			p.problems.report("kube-proxy", nil)
			return
		}
		p.problems.report("kube-proxy", []plan.Problem{{
			Object: "Node " + p.source.Node().Name, Field: ipvsmode.KubeProxy, Reason: r.String() + "; kube-ipvs waits for its end and changes nothing", Here: true,
		}})
		wait(ctx, pause)
	}
}

// whenFree calls fn once no kube-proxy runs, or not at all.
func whenFree(ctx context.Context, free <-chan struct{}, fn func() error) func() error {
	return func() error {
		select {
		case <-ctx.Done():
			klog.FromContext(ctx).V(1).Info("Ended while another proxy served this node")
			return nil
		case <-free:
			return fn()
		}
	}
}
