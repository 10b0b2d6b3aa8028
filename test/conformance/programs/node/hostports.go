package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// hostPort makes a port of the node lead to the pod, as the CNI plugin portmap does.
func (p *podNet) hostPort(m *runtimeapi.PortMapping) {
	protocol := strings.ToLower(m.Protocol.String())
	for _, a := range p.addresses {
		tool := "iptables"
		if a.Is6() {
			tool = "ip6tables"
		}
		match := []string{"-p", protocol, "-m", "addrtype", "--dst-type", "LOCAL", "--dport", fmt.Sprint(m.HostPort)}
		if ip, err := netip.ParseAddr(m.HostIp); err == nil && !ip.IsUnspecified() {
			if ip.Is6() != a.Is6() {
				continue
			}
			match = append(match, "-d", m.HostIp)
		}
		to := []string{"-j", "DNAT", "--to-destination", netip.AddrPortFrom(a, uint16(m.ContainerPort)).String()}
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			p.rules = append(p.rules, append(append([]string{tool, chain}, match...), to...))
		}
		p.rules = append(p.rules, []string{tool, "POSTROUTING", "-s", a.String(), "-d", a.String(), "-j", "MASQUERADE"})
	}
	p.iptables("-A")
}

// iptables appends the rules of host ports, or deletes them.
func (p *podNet) iptables(do string) {
	for _, r := range p.rules {
		args := append([]string{"-w", "-t", "nat", do}, r[1:]...)
		if out, err := exec.Command(r[0], args...).CombinedOutput(); err != nil {
			klog.ErrorS(err, "A rule of a host port failed", "command", append(r[:1:1], args...), "output", string(out))
		}
	}
}
