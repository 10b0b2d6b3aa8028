package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// forwardIPv6 lets the kernel forward IPv6, as pods need it. Kube-proxy leaves it to others.
const forwardIPv6 = "net/ipv6/conf/all/forwarding"

// spare returns why a setting must be left as it is. A kernel that begins to forward IPv6 drops the default routes that it has
// from router advertisements, and heeds no more of them, but for links whose accept_ra is 2: the node would lose its way out.
func (p *proxy) spare(ctx context.Context, s sysctl.Setting) error {
	if s.Name != forwardIPv6 {
		return nil
	}
	links, err := node.AdvertisedDefault()
	if err != nil {
		return err
	}
	return spareRoutes(ctx, p.kernel.settings, links)
}

// spareRoutes returns an error that names the links whose default routes the kernel would drop.
func spareRoutes(ctx context.Context, settings sysctl.Kernel, links []string) error {
	var lost []string
	for _, link := range links {
		name := "net/ipv6/conf/" + link + "/accept_ra"
		values, err := settings.Read(ctx, []string{name})
		if err != nil {
			return err
		}
		if values[name] != "2" {
			lost = append(lost, "sysctl -w "+name+"=2")
		}
	}
	if lost == nil {
		return nil
	}
	return fmt.Errorf("is not set to 1, which IPv6 Services need, because the kernel would drop the default route that this node"+
		" has from router advertisements; it is set after: %s", strings.Join(lost, "; "))
}

// bridgeProblems lists the families in which bridged packets pass iptables by though pods are on a bridge: the answers of a
// pod on the same bridge go to the pod that asked without the Service's address. Kube-proxy warns of it too.
func (p *proxy) bridgeProblems(ctx context.Context, n object.Node) []plan.Problem {
	name := ""
	if p.config.DetectLocal.Mode == config.BridgeInterface {
		name = p.config.DetectLocal.Interface
	}
	bridge, err := node.Bridged(name, slices.Concat(p.config.DetectLocal.ClusterCIDRs, n.PodCIDRs))
	if err != nil {
		return nil // it is a hint, and comes with the next change
	}
	return unbridged(ctx, p.kernel.settings, bridge, "Node "+n.Name)
}

// unbridged returns the problems of a bridge with pods, by the settings of the kernel.
func unbridged(ctx context.Context, settings sysctl.Kernel, bridge node.Bridge, object string) []plan.Problem {
	var out []plan.Problem
	for _, family := range []struct {
		setting   string
		concerned bool
	}{{"net/bridge/bridge-nf-call-iptables", bridge.IPv4}, {"net/bridge/bridge-nf-call-ip6tables", bridge.IPv6}} {
		setting := family.setting
		values, err := settings.Read(ctx, []string{setting})
		if !family.concerned || err == nil && values[setting] == "1" {
			continue
		}
		out = append(out, plan.Problem{
			Object: object, Field: strings.ReplaceAll(setting, "/", "."), Here: true,
			Reason: "pods on bridge " + bridge.Name + " get no answer from Services with an endpoint on the same bridge: missing br-netfilter module or unset" +
				" sysctl: modprobe br_netfilter; sysctl -w " + setting + "=1",
		})
	}
	return out
}
