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

// forwardIPv6 makes the kernel forward IPv6, as pods need it. Kube-proxy leaves it to others.
const forwardIPv6 = "net/ipv6/conf/all/forwarding"

// withhold returns why a setting must not be written for now. A kernel that begins to forward IPv6 drops the
// default routes of router advertisements, and ignores later ones, except on links whose accept_ra is 2: the node would
// lose its way out.
func (p *proxy) withhold(ctx context.Context, s sysctl.Setting) error {
	if s.Name != forwardIPv6 {
		return nil
	}
	links, err := node.AdvertisedDefault()
	if err != nil {
		return err
	}
	return lostRoutes(ctx, p.kernel.Sysctl, links)
}

// lostRoutes returns an error that names the links whose default routes the kernel would drop.
func lostRoutes(ctx context.Context, settings sysctl.Kernel, links []string) error {
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

// bridgeProblems returns a problem for each family in which bridged packets bypass iptables although pods are on a
// bridge: a pod's response to another pod on the same bridge would then reach it with the pod's address in place of the
// Service's. Kube-proxy warns of it, too.
func (p *proxy) bridgeProblems(ctx context.Context, n object.Node) []plan.Problem {
	name := ""
	if p.config.DetectLocal.Mode == config.BridgeInterface {
		name = p.config.DetectLocal.Interface
	}
	bridge, err := node.PodBridge(name, slices.Concat(p.config.DetectLocal.ClusterCIDRs, n.PodCIDRs))
	if err != nil {
		return nil // only a hint, repeated with the next change
	}
	return unbridged(ctx, p.kernel.Sysctl, bridge, "Node "+n.Name)
}

// unbridged returns the problems of a bridge with pods, given the kernel's settings.
func unbridged(ctx context.Context, settings sysctl.Kernel, bridge node.Bridge, object string) []plan.Problem {
	var out []plan.Problem
	for _, family := range []struct {
		setting   string
		concerned bool
	}{{"net/bridge/bridge-nf-call-iptables", bridge.IPv4}, {"net/bridge/bridge-nf-call-ip6tables", bridge.IPv6}} {
		if !family.concerned {
			continue
		}
		setting := family.setting
		values, err := settings.Read(ctx, []string{setting})
		if err == nil && values[setting] == "1" {
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
