package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"kube-ipvs/test/cluster"
)

// uplink is the link of the test kernel to the cluster's tap device; bridge connects the nodes with it.
const (
	uplink = cluster.KernelLink
	bridge = "br0"
)

// runNodes is the command "nodes", which runs in the test kernel: it makes the nodes and starts a kubelet on each. It ends
// when one of them does, which is an error.
func runNodes(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("nodes", flag.ContinueOnError)
	var s setting
	s.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	ended := make(chan error)
	nodes := s.nodes()
	for _, n := range nodes {
		if err := n.setUp(nodes); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		if err := os.Mkdir(n.run(), 0o755); err != nil {
			return err
		}
		kubelet := []string{filepath.Join(s.bin, "node"), "--name=" + n.name, "--ip=" + texts(addressesOf(n.addresses)),
			"--pods=" + texts(n.pods), "--kubeconfig=" + s.kubeconfig(), "--root=" + n.run(), "--programs=" + s.bin, "--dns=" + clusterDNS,
			"--labels=topology.kubernetes.io/zone=" + n.zone + ",topology.kubernetes.io/region=here"}
		wait, err := n.start(filepath.Join(s.logs(), "kubelet-"+n.name+".log"), kubelet)
		if err != nil {
			return err
		}
		go func() { ended <- fmt.Errorf("the kubelet of %s ended: %v", n.name, wait()) }()
	}
	return <-ended
}

// setUpNetwork makes the bridge in the test kernel's first network namespace.
func setUpNetwork() error {
	if err := writeSettings(map[string]string{
		// A kubelet watches the files of each of its pods.
		"net/netfilter/nf_conntrack_max": "500000", "kernel/pid_max": "100000", "fs/inotify/max_user_instances": "1024",
	}); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("add %s: %w", bridge, err)
	}
	if err := enslave(uplink); err != nil {
		return err
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
}

// enslave makes a link a port of the bridge.
func enslave(name string) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	port, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("connect %s with %s: %w", name, bridge, err)
	}
	return netlink.LinkSetUp(port)
}

// setUp makes the node's namespace: with eth0 on the bridge, routes to the other nodes' pods, and forwarding.
func (n node) setUp(nodes []node) error {
	space, err := newNamespace(n.name)
	if err != nil {
		return err
	}
	defer space.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "port-" + n.name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(space)}); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := enslave(attrs.Name); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		if name == "eth0" {
			err = n.address(h, link, nodes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// address gives the node's eth0 its addresses, and the node its routes.
func (n node) address(h *netlink.Handle, eth netlink.Link, nodes []node) error {
	for family, a := range n.addresses {
		if err := h.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
		routes := map[netip.Prefix]netip.Addr{netip.PrefixFrom(unspecified(a.Addr()), 0): host(family)}
		for _, other := range nodes {
			if other.name != n.name {
				routes[other.pods[family]] = other.addresses[family].Addr()
			}
		}
		for to, via := range routes {
			if err := h.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice(), LinkIndex: eth.Attrs().Index}); err != nil {
				return fmt.Errorf("add a route to %s: %w", to, err)
			}
		}
	}
	return nil
}

// newNamespace makes a network namespace that "ip netns exec" finds, and that forwards.
func newNamespace(name string) (netns.NsHandle, error) {
	var space netns.NsHandle
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		var err error
		if space, err = netns.NewNamed(name); err == nil {
			err = writeSettings(map[string]string{
				"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
				"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
			})
		}
		made <- err
	}()
	return space, <-made
}

// lockFile is the file in run that keeps programs from writing a node's iptables at the same time.
const lockFile = "xtables.lock"

// run returns the folder of everything that runs on the node.
func (n node) run() string { return filepath.Join("/run", n.name) }

// start starts a command on the node, whose output goes to the file.
func (n node) start(log string, command []string) (wait func() error, err error) {
	to, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.name}, command...)...)
	cmd.Stdout, cmd.Stderr = to, to
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(n.run(), lockFile)) // nodes share no lock
	return cmd.Wait, cmd.Start()
}

// writeSettings writes kernel settings by their names below /proc/sys, into the thread's namespace.
func writeSettings(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

func addressesOf(list []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range list {
		out = append(out, p.Addr())
	}
	return out
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
