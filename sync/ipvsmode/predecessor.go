package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
)

// A predecessor is kube-proxy's ipvs mode as its sets describe it: they name all of its virtual servers. As long as they
// exist, those are owned by kube-ipvs, so that it takes them over in place, or removes them if no Service needs them any more.
// The sets are the last of kube-proxy's objects to be removed.
type predecessor struct {
	isRead    bool
	isThere   bool // there is such a set
	servers   map[ipvs.Key]struct{}
	nodePorts map[nodePort]struct{}
	exclude   []netip.Prefix // addresses of virtual servers that were not its own
}

// A nodePort is a port of all addresses of the node.
type nodePort struct {
	family inet.Family
	proto  inet.Protocol
	port   uint16
}

// Sets of kube-proxy's ipvs mode with its virtual servers: by address and port, and by the port of any address of the node.
var (
	kubeProxyServers   = []string{"CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "NODE-PORT-SCTP-HASH"}
	kubeProxyNodePorts = map[inet.Protocol]string{inet.TCP: "NODE-PORT-TCP", inet.UDP: "NODE-PORT-UDP"}
)

// kubeProxyRest are its other sets.
var kubeProxyRest = []string{
	"HEALTH-CHECK-NODE-PORT", "IPVS-IPS", "LOAD-BALANCER-FW", "LOAD-BALANCER-LOCAL", "LOAD-BALANCER-SOURCE-CIDR", "LOAD-BALANCER-SOURCE-IP", "LOOP-BACK",
	"NODE-PORT-LOCAL-SCTP-HASH", "NODE-PORT-LOCAL-TCP", "NODE-PORT-LOCAL-UDP",
}

// isKubeProxySet reports whether a set is one of kube-proxy's ipvs mode, which cuts names that are too long for the kernel.
func isKubeProxySet(name string) bool {
	const maxLen = 31
	is := func(known string) bool {
		six := "KUBE-6-" + known
		return name == "KUBE-"+known || name == six[:min(len(six), maxLen)]
	}
	return slices.ContainsFunc(kubeProxyServers, is) || slices.ContainsFunc(kubeProxyRest, is) ||
		is(kubeProxyNodePorts[inet.TCP]) || is(kubeProxyNodePorts[inet.UDP])
}

// has reports whether a virtual server was kube-proxy's.
func (p *predecessor) has(k ipvs.Key) bool {
	_, listed := p.servers[k]
	_, onNode := p.nodePorts[nodePort{inet.FamilyOf(k.Addr), k.Proto, k.Port}]
	return (listed || onNode) && !slices.ContainsFunc(p.exclude, func(x netip.Prefix) bool { return x.Contains(k.Addr) })
}

// read reads kube-proxy's sets, once.
func (p *predecessor) read(ctx context.Context, sets ipset.Kernel) error {
	if p.isRead {
		return nil
	}
	names, err := sets.Names(ctx)
	if err != nil {
		return fmt.Errorf("sets of kube-proxy: %w", err)
	}
	if p.isThere = slices.ContainsFunc(names, isKubeProxySet); !p.isThere {
		p.isRead = true
		return nil
	}
	p.servers, p.nodePorts = map[ipvs.Key]struct{}{}, map[nodePort]struct{}{}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		prefix := "KUBE-"
		if f == inet.IPv6 {
			prefix = "KUBE-6-"
		}
		for _, name := range kubeProxyServers {
			members, err := readForeign(ctx, sets, ipset.Set{Name: prefix + name, Type: ipset.HashIPPort, Family: f})
			if err != nil {
				return err
			}
			for m := range members {
				p.servers[MemberKey(m)] = struct{}{}
			}
		}
		for proto, name := range kubeProxyNodePorts {
			members, err := readForeign(ctx, sets, ipset.Set{Name: prefix + name, Type: ipset.BitmapPort})
			if err != nil {
				return err
			}
			for m := range members {
				p.nodePorts[nodePort{f, proto, m.Port}] = struct{}{}
			}
		}
	}
	p.isRead = true
	return nil
}

// readForeign reads a set that may be missing.
func readForeign(ctx context.Context, sets ipset.Kernel, set ipset.Set) (map[ipset.Member]ipset.Mark, error) {
	members, err := sets.Read(ctx, set)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) { // or it is of another type, and not kube-proxy's
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("virtual servers of kube-proxy: %w", err)
	}
	return members, nil
}

// forget forgets what is removed: a virtual server that comes there later is somebody else's.
func (p *predecessor) forget() { p.servers, p.nodePorts, p.isThere = nil, nil, false }
