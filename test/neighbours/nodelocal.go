//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/test/child"
	"kube-ipvs/test/lab"
)

// nodeLocal is NodeLocal DNSCache. Its own program is in no module that can be had; it is CoreDNS that sets up a link and
// rules before it serves, and CoreDNS serves here after the same was done by hand.
type nodeLocal struct {
	*Place
	cluster, cache *child.Program // the cluster's DNS, in a pod; the node's cache
	there          bool
}

// DNS is the Service that the cache asks: its cluster IP has port 53 of TCP and UDP, its endpoint is port 53 of pod2.
var DNS = netip.MustParseAddr("10.96.0.10")

const localDNS = "169.254.20.10"

// NewNodeLocal is CoreDNS as the node's cache.
func NewNodeLocal(p *Place) Neighbour { return &nodeLocal{Place: p} }

func (n *nodeLocal) Version(ctx context.Context) (string, error) {
	return n.module(ctx, "coredns", "github.com/coredns/coredns")
}

func (n *nodeLocal) How() string {
	return "link nodelocaldns with " + localDNS + ", its NOTRACK and ACCEPT rules, CoreDNS (bind, cache, forward force_tcp to the DNS Service's cluster IP) on it; " +
		"the cluster's DNS is CoreDNS in a pod"
}

// rules are those of node-cache: connections to the cache are nobody's to translate or to track.
func (n *nodeLocal) rules(action string) string {
	var out strings.Builder
	for _, proto := range []string{"udp", "tcp"} {
		for _, rule := range []string{
			"raw %s PREROUTING -p %s -d %s --dport 53 -j NOTRACK", "filter %s INPUT -p %s -d %s --dport 53 -j ACCEPT",
			"raw %s OUTPUT -p %s -s %s --sport 53 -j NOTRACK", "filter %s OUTPUT -p %s -s %s --sport 53 -j ACCEPT",
			"raw %s OUTPUT -p %s -d %s --dport 53 -j NOTRACK",
		} {
			fmt.Fprintf(&out, "iptables -w -t "+rule+"\n", action, proto, localDNS)
		}
	}
	for _, rule := range []string{"-d %s --dport 8080", "-s %s --sport 8080"} {
		fmt.Fprintf(&out, "iptables -w -t raw %s OUTPUT -p tcp "+rule+" -j NOTRACK\n", action, localDNS)
	}
	return out.String()
}

func (n *nodeLocal) Start(ctx context.Context) error {
	if n.cache == nil {
		if err := n.prepare(); err != nil {
			return err
		}
	}
	_, err := shell(ctx, "ip link add nodelocaldns type dummy\nip addr add "+localDNS+"/32 dev nodelocaldns\n"+n.rules("-I"))
	if err != nil {
		return err
	}
	n.there = true
	if err := n.cache.Start(); err != nil {
		return err
	}
	if err := until(ctx, time.Minute, func() error { return n.Works(ctx) }); err != nil {
		return errors.Join(err, n.cache.LastWords(), n.cluster.LastWords())
	}
	return nil
}

func (n *nodeLocal) prepare() error {
	far, err := n.write("cluster.conf", "cluster.local:53 {\n  errors\n  template IN A {\n    answer \"{{ .Name }} 5 IN A 192.0.2.53\"\n  }\n}\n")
	here, err2 := n.write("cache.conf", "cluster.local:53 {\n  errors\n  bind "+localDNS+"\n  health "+localDNS+":8080\n"+
		"  cache {\n    success 9984 5\n    denial 9984 5\n  }\n  forward . "+DNS.String()+" {\n    force_tcp\n  }\n}\n")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	coredns := filepath.Join(n.Bin, "coredns")
	if n.cluster, err = n.program(n.Pod("pod2"), nil, coredns, "-conf", far); err != nil {
		return err
	}
	n.cluster.Log += ".cluster"
	if n.cache, err = n.program(n.Node, nil, coredns, "-conf", here); err != nil {
		return err
	}
	return n.cluster.Start()
}

// Works asks the cache from a pod and from the node, names that it has not in store.
func (n *nodeLocal) Works(context.Context) error {
	var errs []error
	for _, host := range []*lab.Host{n.Pod("asker"), n.Node} {
		for _, network := range []string{"udp", "tcp"} {
			if err := resolve(host, network, netip.AddrPortFrom(netip.MustParseAddr(localDNS), 53)); err != nil {
				errs = append(errs, fmt.Errorf("%v, %s: %w", host, network, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (n *nodeLocal) Stop(ctx context.Context) error {
	if !n.there {
		return nil
	}
	n.there = false
	err := end(n.cache)
	_, err2 := shell(ctx, n.rules("-D")+"ip link del nodelocaldns")
	return errors.Join(err, err2)
}

func (n *nodeLocal) Remove(ctx context.Context) error {
	return errors.Join(n.Stop(ctx), end(n.cluster))
}

// resolve asks a DNS server for an address (RFC 1035, 4.1).
func resolve(host *lab.Host, network string, server netip.AddrPort) error {
	var c net.Conn
	err := host.Do(func() (err error) {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err = d.Dial(network, server.String())
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	now := time.Now()
	query := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range []string{fmt.Sprint("n", now.UnixNano()), "cluster", "local"} {
		query = append(append(query, byte(len(label))), label...)
	}
	query = append(query, 0, 0, 1, 0, 1) // IN A
	head := 0
	if network == "tcp" {
		query = append([]byte{0, byte(len(query))}, query...)
		head = 2
	}
	if err := c.SetDeadline(now.Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(query); err != nil {
		return err
	}
	reply := make([]byte, 512)
	n, err := c.Read(reply)
	if err != nil {
		return err
	}
	if n < head+12 || reply[head+7] != 1 {
		return fmt.Errorf("a reply without an answer: %x", reply[:n])
	}
	return nil
}
