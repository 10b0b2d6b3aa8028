// Package lab is a laboratory of network namespaces: a node, a second node, pods on both, and a client outside, all of
// them inside one process and one kernel. Packets are sent from any of them to any address, and the answer tells who
// answered and which source it saw.
//
//	                      client  198.51.100.2, 2001:db8:51::2
//	                        |
//	                      router  198.51.100.1, 192.168.77.1, ...
//	            ____________|____________  LAN: a bridge in the router
//	           |                         |
//	 node  192.168.77.11       node2  192.168.77.12
//	           |                         |
//	pods  10.244.1.11, .12 ...  10.244.2.11, .12 ...
//
// The node is the network namespace of the process, since what is tested runs there; every other host has one of its own.
// All are dual-stack. The router knows the way to the pods of both nodes, and that service addresses (Services) are
// behind the node. Nothing masquerades, so each server sees who really sent, unless what is tested masquerades.
//
// It needs root, and a kernel with veth and bridge. Use it in a kernel or namespace of its own: test/inkernel gives one.
package lab

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// A Config says what the laboratory looks like. Its zero value is two pods on the node and one on the second node.
type Config struct {
	Pods       []string // names of the pods on the node; default pod1 and pod2
	RemotePods []string // names of the pods on the second node; default pod3

	// LinkPrefix begins the names of the node's links to its pods, which end with the pod's name; default "cali".
	LinkPrefix string
	// Bridge puts the node's pods on a bridge, cni0, whose address is their gateway. Otherwise each hangs on a link of
	// its own without address, as Calico does it.
	Bridge bool
	// NoDefaultRoute leaves the node without a way to what is not in the LAN or a pod.
	NoDefaultRoute bool
	// RemoteServices gives node2 routes to Services through the node, so that its pods can be clients there.
	RemoteServices bool
	// Forward makes the node forward IPv4 packets. It is off by default because the tested program does that itself.
	Forward bool
	// NotCounting lets servers not count what arrives, so that Arrived is always 0: counting takes as long as answering.
	NotCounting bool

	// Wait is how long Ask and Dial wait for an answer; default one second.
	Wait time.Duration
}

// withDefaults returns the configuration with what was left out filled in.
func (c Config) withDefaults() Config {
	if c.Pods == nil {
		c.Pods = []string{"pod1", "pod2"}
	}
	if c.RemotePods == nil {
		c.RemotePods = []string{"pod3"}
	}
	if c.LinkPrefix == "" {
		c.LinkPrefix = "cali"
	}
	if c.Wait == 0 {
		c.Wait = time.Second
	}
	return c
}

// A Lab is a laboratory that stands. Its methods are safe for use by several goroutines.
type Lab struct {
	Node   *Host // the network namespace of the process
	Node2  *Host // a second node in the same LAN
	Router *Host // between the LAN and the outside
	Client *Host // outside

	config Config
	pods   map[string]*Host
	ends   []end          // of cables that await has not seen up
	undo   []func() error // what Close does to the node, last first

	mu      sync.Mutex
	servers []*Server
}

// New builds a laboratory. The caller must Close it before another is built in the same namespace.
func New(config Config) (*Lab, error) {
	l := &Lab{config: config.withDefaults(), pods: map[string]*Host{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

// Pod returns the pod of that name. Everything that is asked of a pod that does not exist fails with ErrNoHost.
func (l *Lab) Pod(name string) *Host {
	if h, ok := l.pods[name]; ok {
		return h
	}
	return &Host{name: name}
}

// Close ends the servers and takes the laboratory down: of it no namespace, link, route, goroutine or changed setting
// stays, and no entry in the node's connection tracking: the next laboratory has the same addresses, and a client that gets the
// same port would continue the old connection. Connections from Dial belong to their callers; a namespace lives on as long as one of them is open.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, server := range l.servers {
		errs = append(errs, server.Close())
	}
	l.servers = nil
	for len(l.undo) > 0 {
		last := len(l.undo) - 1
		errs = append(errs, l.undo[last]())
		l.undo = l.undo[:last]
	}
	for _, h := range l.hosts() {
		h.close()
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		errs = append(errs, fmt.Errorf("forget the node's connections: %w", err))
	}
	return errors.Join(errs...)
}

// hosts returns every host that was made so far.
func (l *Lab) hosts() []*Host {
	var all []*Host
	for _, h := range []*Host{l.Node, l.Node2, l.Router, l.Client} {
		if h != nil {
			all = append(all, h)
		}
	}
	for _, h := range l.pods {
		all = append(all, h)
	}
	return all
}
