package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// runOutside is the command "outside", which runs where the API server and the tests run, and is the network around the
// nodes: routes to pods, and a load balancer. It does not end by itself.
func runOutside(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("outside", flag.ContinueOnError)
	var s setting
	s.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/fib_multipath_hash_policy", []byte("1"), 0); err != nil { // by addresses and ports
		return err
	}
	if err := addNowhere(); err != nil {
		return fmt.Errorf("add %s: %w", nowhere, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	own := netip.MustParseAddr(outsideAddress)
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(single(own))}); err != nil {
		return fmt.Errorf("add %s: %w", own, err)
	}
	for _, n := range s.nodes() {
		for family, pods := range n.pods {
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(pods), Gw: n.addresses[family].Addr().AsSlice()}); err != nil {
				return fmt.Errorf("add a route to %s: %w", pods, err)
			}
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1 // it asks twice a second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	newBalancer(client).run(ctx, 500*time.Millisecond)
	return nil
}

// nowhere is a link that loses all that is sent to it, as a cloud loses what is sent to an address that nobody has.
const nowhere = "nowhere"

// addNowhere makes that link: a TUN device that no program reads.
func addNowhere() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nowhere
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(nowhere)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// routeTo makes the only route to an address lead to these gateways, each by the source address of the clients outside;
// without one, what is sent to the address is lost.
func routeTo(a netip.Addr, gateways []netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(single(a))}
	switch len(gateways) {
	case 0:
		link, err := netlink.LinkByName(nowhere)
		if err != nil {
			return err
		}
		route.LinkIndex, route.Src = link.Attrs().Index, net.ParseIP(outsideAddress)
	case 1:
		route.Gw, route.Src = gateways[0].AsSlice(), net.ParseIP(outsideAddress)
	default:
		route.Src = net.ParseIP(outsideAddress)
		for _, g := range gateways {
			ways, err := netlink.RouteGet(g.AsSlice())
			if err != nil || len(ways) == 0 {
				return fmt.Errorf("no way to %s: %w", g, err)
			}
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: g.AsSlice(), LinkIndex: ways[0].LinkIndex})
		}
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to %v: %w", a, gateways, err)
	}
	return nil
}

// single returns the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
