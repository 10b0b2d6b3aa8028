package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Link names that several steps share.
const (
	uplink    = "eth0"
	lanBridge = "lan"
	podBridge = "cni0"
)

// The gateway that a pod on a link of its own believes in. Nobody has these addresses; a permanent neighbour entry in the
// pod leads to the other end of the cable.
var gateway = addresses{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")}

// build builds everything, from the outside in.
func (l *Lab) build() error {
	for _, step := range []func() error{l.buildRouter, l.buildClient, l.buildNode2, l.buildNode, l.buildPods, l.await} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) buildRouter() (err error) {
	if l.Router, err = newHost("router", LAN.host(1)); err != nil {
		return err
	}
	if err := l.Router.addBridge(lanBridge); err != nil {
		return err
	}
	return errors.Join(l.Router.up(lanBridge), l.Router.addAddresses(lanBridge, l.Router.addrs.on(LAN)))
}

func (l *Lab) buildClient() (err error) {
	if l.Client, err = newHost("client", Outside.host(2)); err != nil {
		return err
	}
	if err := l.cable(end{l.Router, "outside"}, end{l.Client, uplink}); err != nil {
		return err
	}
	router := Outside.host(1)
	return errors.Join(
		l.Router.addAddresses("outside", router.on(Outside)),
		l.Client.addAddresses(uplink, l.Client.addrs.on(Outside)),
		l.Client.addRoutes(anywhere, router, uplink),
	)
}

// joinLAN connects a node with the LAN and tells the router which pods are behind it.
func (l *Lab) joinLAN(node *Host, pods Network) error {
	port := node.name
	if err := l.cable(end{l.Router, port}, end{node, uplink}); err != nil {
		return err
	}
	return errors.Join(
		l.Router.plug(port, lanBridge),
		node.addAddresses(uplink, node.addrs.on(LAN)),
		l.Router.addRoutes(pods, node.addrs, lanBridge),
	)
}

func (l *Lab) buildNode2() (err error) {
	if l.Node2, err = newHost("node2", LAN.host(12)); err != nil {
		return err
	}
	node := LAN.host(11)
	err = errors.Join(
		l.joinLAN(l.Node2, RemotePods),
		l.Node2.addRoutes(anywhere, l.Router.addrs, uplink),
		l.Node2.addRoutes(Pods, node, uplink),
	)
	for _, services := range Services {
		err = errors.Join(err, l.Router.addRoutes(services, node, lanBridge))
		if l.config.RemoteServices {
			err = errors.Join(err, l.Node2.addRoutes(services, node, uplink))
		}
	}
	return err
}

func (l *Lab) buildNode() error {
	l.Node = &Host{name: "node1", addrs: LAN.host(11), net: netns.None()}
	if err := l.Node.open(); err != nil {
		return err
	}
	if err := l.setUpNode(); err != nil {
		return err
	}
	err := l.joinLAN(l.Node, Pods)
	if err != nil {
		return err
	}
	if !l.config.NoDefaultRoute {
		err = l.Node.addRoutes(anywhere, l.Router.addrs, uplink)
	}
	return errors.Join(err, l.Node.addRoutes(RemotePods, l.Node2.addrs, uplink))
}

// setUpNode changes settings of the process's own namespace, for as long as the laboratory stands.
func (l *Lab) setUpNode() error {
	settings := map[string]string{
		"net/ipv6/conf/all/forwarding": "1",
		"net/ipv4/icmp_ratelimit":      "0",
		"net/ipv6/icmp/ratelimit":      "0",
		// These are the whole kernel's, and only in its first namespace. Both families' refusals are counted, and the
		// allowance is renewed once in 20 milliseconds, so the burst is what matters.
		"net/ipv4/icmp_msgs_per_sec": "1000000",
		"net/ipv4/icmp_msgs_burst":   "1000000",
		"net/ipv4/route/error_cost":  "0", // of an unreachable route
	}
	if l.config.Forward {
		settings["net/ipv4/ip_forward"] = "1"
	}
	for name, value := range settings {
		was, err := l.Node.sysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = l.Node.setSysctl(name, value)
		}
		if err != nil {
			return fmt.Errorf("set the node up: %w", err)
		}
		l.undo = append(l.undo, func() error { return l.Node.setSysctl(name, was) })
	}
	return nil
}

// cable connects two hosts and sets both ends up.
func (l *Lab) cable(a, b end) error {
	if err := connect(a, b); err != nil {
		return err
	}
	l.ends = append(l.ends, a, b)
	for _, e := range []end{a, b} {
		if e.host == l.Node {
			l.removeLater(e.link)
		}
	}
	return errors.Join(a.host.up(a.link), b.host.up(b.link))
}

// await waits until the laboratory works: what is sent before the kernel has seen that both ends of a cable are up is lost, and a
// host looks for its own IPv6 address elsewhere until the kernel finds the time to make the route to it.
func (l *Lab) await() error {
	for _, e := range l.ends {
		if err := await(fmt.Sprintf("%s: link %s is up", e.host, e.link), e.isUp); err != nil {
			return err
		}
	}
	l.ends = nil
	for _, h := range l.hosts() {
		if err := await(fmt.Sprintf("%s has %v", h, h.Addr(true)), h.isReachable); err != nil {
			return err
		}
	}
	return nil
}

// await waits until it is so.
func await(what string, isSo func() (bool, error)) error {
	const patience = time.Minute // of which a busy machine may give this kernel a second
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		switch so, err := isSo(); {
		case err != nil:
			return err
		case so:
			return nil
		case time.Since(start) > patience:
			return fmt.Errorf("not so after %v: %s", patience, what)
		}
	}
}

// removeLater lets Close remove a link of the node, and with it the other end of the cable and their routes.
func (l *Lab) removeLater(name string) {
	l.undo = append(l.undo, func() error {
		link, err := l.Node.links.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil // the test removed it
		}
		if err != nil {
			return err
		}
		return l.Node.links.LinkDel(link)
	})
}

func (l *Lab) buildPods() error {
	if l.config.Bridge {
		if err := l.buildBridge(); err != nil {
			return err
		}
	}
	for i, name := range l.config.Pods {
		if err := l.buildPod(name, i); err != nil {
			return err
		}
	}
	for i, name := range l.config.RemotePods {
		pod, err := l.newPod(name, RemotePods.host(11+i))
		if err != nil {
			return err
		}
		if err := l.cableAlone(end{l.Node2, "pod-" + name}, pod); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) buildBridge() error {
	if err := l.Node.addBridge(podBridge); err != nil {
		return err
	}
	l.removeLater(podBridge)
	return errors.Join(l.Node.up(podBridge), l.Node.addAddresses(podBridge, Pods.host(1).on(Pods)))
}

func (l *Lab) newPod(name string, addrs addresses) (*Host, error) {
	if _, twice := l.pods[name]; twice {
		return nil, fmt.Errorf("two pods named %s", name)
	}
	pod, err := newHost(name, addrs)
	if err == nil {
		l.pods[name] = pod
	}
	return pod, err
}

// buildPod makes the node's pod number i.
func (l *Lab) buildPod(name string, i int) error {
	pod, err := l.newPod(name, Pods.host(11+i))
	if err != nil {
		return err
	}
	port := end{l.Node, l.config.LinkPrefix + name}
	if !l.config.Bridge {
		return l.cableAlone(port, pod)
	}
	if err := l.cable(port, end{pod, uplink}); err != nil {
		return err
	}
	return errors.Join(
		l.Node.plug(port.link, podBridge),
		l.Node.hairpin(port.link),
		pod.addAddresses(uplink, pod.addrs.on(Pods)),
		pod.addRoutes(anywhere, Pods.host(1), uplink),
	)
}

// cableAlone connects a pod with its node over a link that has no address and no other neighbour.
func (l *Lab) cableAlone(port end, pod *Host) error {
	if err := l.cable(port, end{pod, uplink}); err != nil {
		return err
	}
	if err := pod.addAddresses(uplink, pod.addrs.alone()); err != nil {
		return err
	}
	err := port.host.with(port.link, func(link netlink.Link) error {
		mac := link.Attrs().HardwareAddr
		return errors.Join(pod.addNeighbour(gateway[0], mac, uplink), pod.addNeighbour(gateway[1], mac, uplink))
	})
	whole := Network(pod.addrs.alone())
	return errors.Join(err,
		pod.addRoute(netip.PrefixFrom(gateway[0], 32), netip.Addr{}, uplink),
		pod.addRoutes(anywhere, gateway, uplink),
		port.host.addRoutes(whole, addresses{}, port.link),
	)
}
