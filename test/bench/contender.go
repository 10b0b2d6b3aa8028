package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/wire"
)

// Whose state packets meet on their way. It is programmed, and then the program ends: what costs a packet stays.
const (
	nobody    = "nothing"
	conntrack = "conntrack alone"
	divert    = "kube-ipvs, divert"
	external  = "kube-ipvs, divert, with an external address"
	bind      = "kube-ipvs, bind"
	peerIPVS  = "kube-proxy, ipvs mode"
	peerRules = "kube-proxy, iptables mode"
)

// pathTarget is the Service that packets of both protocols are sent to. It is not one of those that make the size.
func pathTarget() plan.Service {
	svc := service(0)
	svc.Name.Name, svc.ClusterIPs = "path", []netip.Addr{netip.MustParseAddr("10.111.0.1")}
	svc.Ports = append(svc.Ports, plan.Port{Name: "http-udp", Proto: inet.UDP, Port: servicePort})
	return svc
}

// pathSlice is the slice of the target: one pod of the node.
func pathSlice(pod netip.Addr) plan.Slice {
	slice := slicesOf(pathTarget().Name, []plan.Endpoint{ready(pod, "node1")})[0]
	slice.Ports = append(slice.Ports, plan.SlicePort{Name: "http-udp", Proto: inet.UDP, Port: podPort})
	return slice
}

// contend returns a laboratory whose node has the state of a contender, which serves that many Services and the target.
func contend(ctx context.Context, contender string, s size) (*lab.Lab, error) {
	switch contender {
	case peerIPVS:
		return contendPeer(ctx, ipvsMode, s)
	case peerRules:
		return contendPeer(ctx, iptablesMode, s)
	}
	l, err := newQuietLab(true)
	if err != nil {
		return nil, err
	}
	switch contender {
	case conntrack:
		err = run("", "iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
	case divert, external, bind:
		err = contendOurs(ctx, l, contender, s)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func contendOurs(ctx context.Context, l *lab.Lab, contender string, s size) error {
	m, target := newMemory(s), pathTarget()
	if contender == external {
		target.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	}
	m.Put(target, pathSlice(l.Pod("old").Addr(false)))
	p, err := start(ctx, m, func(cfg *ipvsmode.Config) { cfg.Plan.Bind = contender == bind })
	if err != nil {
		return err
	}
	return errors.Join(p.program(ctx), p.settle(ctx), p.end())
}

// contendPeer lets kube-proxy program the node. In ipvs mode it would take half an hour for ten thousand Services: it gets few,
// and the rest is added as it has them.
func contendPeer(ctx context.Context, mode string, s size) (*lab.Lab, error) {
	its := s
	if mode == ipvsMode {
		its = few
	}
	l, err := newQuietLab(true)
	if err != nil {
		return nil, err
	}
	b, err := newSide(l, its)
	if err != nil {
		return nil, err
	}
	slice, _ := kubeproxy.Slice(0, pathSlice(b.Pod("old").Addr(false)))
	if err = b.api.Set(kubeproxy.Service(pathTarget()), slice); err == nil {
		err = b.start(ctx, mode)
	}
	if err = errors.Join(err, b.stop(), b.api.Close()); err == nil && mode == ipvsMode {
		err = addAsIPVSMode(ctx, its, s)
	}
	if err != nil {
		return nil, errors.Join(err, b.Lab.Close())
	}
	return b.Lab, nil
}

// addAsIPVSMode adds the Services by which one size is larger than another, as kube-proxy's ipvs mode would: virtual and real
// servers, members of its set of cluster IPs, and addresses on its link.
func addAsIPVSMode(ctx context.Context, before, s size) error {
	kernel, err := wire.Open(ctx)
	if err != nil {
		return err
	}
	set := ipset.Set{Name: "KUBE-CLUSTER-IP", Type: ipset.HashIPPort, Family: inet.IPv4}
	var servers []ipvs.Op
	var members []ipset.Op
	var addresses strings.Builder
	for n := before.Services; n < s.Services; n++ {
		at := netip.AddrPortFrom(clusterIP(n), servicePort)
		key := ipvs.AddrKey(inet.TCP, at)
		servers = append(servers, ipvs.Op{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}})
		for _, e := range endpoints(n, s.Endpoints) {
			servers = append(servers, ipvs.Op{Verb: ipvs.AddReal, Key: key, Addr: netip.AddrPortFrom(e.Addr, podPort), Real: ipvs.Real{Weight: 1}})
		}
		members = append(members, ipset.Op{Verb: ipset.Add, Set: set, Member: ipset.Member{Addr: at.Addr(), Proto: inet.TCP, Port: servicePort}})
		fmt.Fprintf(&addresses, "address add %v/32 dev kube-ipvs0\n", at.Addr())
	}
	errs := append(kernel.IPVS.Do(ctx, servers), kernel.Sets.Do(ctx, members)...)
	return errors.Join(append(errs, run(addresses.String(), "ip", "-batch", "-"), kernel.Close())...)
}

// quicken makes the node forget soon what only began, so that those who measure new connections do not fill its tables.
func quicken() error {
	err := run("", "ipvsadm", "--set", "0", "0", "1")
	for name, value := range map[string]string{
		"net.netfilter.nf_conntrack_udp_timeout": "1", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent": "1",
		"net.netfilter.nf_conntrack_tcp_timeout_close": "1",
	} {
		err = errors.Join(err, run("", "sysctl", "-q", "-w", name+"="+value))
	}
	return err
}

// deafen makes pods drop what reaches them, before anything else there sees it.
func deafen(l *lab.Lab, pods ...string) error {
	var err error
	for _, pod := range pods {
		err = errors.Join(err, l.Pod(pod).Do(func() error {
			return run("", "iptables", "-t", "raw", "-A", "PREROUTING", "!", "-i", "lo", "-j", "DROP")
		}))
	}
	return err
}

// run runs a program.
func run(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
