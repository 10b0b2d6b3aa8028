//go:build kernel && neighbours

package neighbours

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// portmap gives pod2 host ports, with TCP and UDP.
type portmap struct {
	*Place
	ports []uint16
	how   string
	there bool
}

// NewPortmap is CNI's portmap plugin, with a host port that all Services have as theirs.
func NewPortmap(p *Place) Neighbour {
	return &portmap{Place: p, ports: []uint16{80}, how: "host port 80 leads to pod2, while all Services have port 80"}
}

// NewServiceLB is CNI's portmap plugin, with the host ports of Services whose load-balancer IPs are the node's addresses.
func NewServiceLB(p *Place) Neighbour {
	m := &portmap{Place: p, how: "as k3s's ServiceLB has it: load-balancer IPs are the node's own addresses, and host ports of the same numbers lead to pod2"}
	for n := range 16 {
		m.ports = append(m.ports, BalancedPort(n))
	}
	return m
}

// BalancedPort is the number n of ServiceLB's ports.
func BalancedPort(n int) uint16 { return 8100 + uint16(n%16) }

func (m *portmap) Version(ctx context.Context) (string, error) {
	return m.module(ctx, "portmap", "github.com/containernetworking/plugins")
}

func (m *portmap) How() string {
	return "called as the runtime calls it (ADD, DEL) with TCP and UDP, defaults; " + m.how
}

func (m *portmap) Start(ctx context.Context) error {
	m.there = true
	return m.call(ctx, "ADD")
}

func (m *portmap) Works(ctx context.Context) error {
	if m.ports[0] != 80 {
		return nil // a Service has what would answer
	}
	return each(m.Node, 80, func(at netip.AddrPort) error { return m.answers(ctx, m.Client, at, "pod2") })
}

func (m *portmap) Stop(ctx context.Context) error { return m.call(ctx, "DEL") }

func (m *portmap) Remove(ctx context.Context) error {
	if !m.there {
		return nil
	}
	return m.call(ctx, "DEL")
}

// call is what a container runtime does.
func (m *portmap) call(ctx context.Context, command string) error {
	space, err := netNS(m.Pod("pod2"))
	if err != nil {
		return err
	}
	type object = map[string]any
	var ips, ports []object
	for _, v6 := range []bool{false, true} {
		a := m.Pod("pod2").Addr(v6)
		ips = append(ips, object{"address": netip.PrefixFrom(a, a.BitLen()).String(), "interface": 0})
	}
	for _, port := range m.ports {
		for _, proto := range []string{"tcp", "udp"} {
			ports = append(ports, object{"hostPort": port, "containerPort": 8080, "protocol": proto})
		}
	}
	config, err := json.Marshal(object{
		"cniVersion": "1.0.0", "name": "pods", "type": "portmap", "capabilities": object{"portMappings": true},
		"runtimeConfig": object{"portMappings": ports},
		"prevResult": object{
			"cniVersion": "1.0.0", "ips": ips,
			"interfaces": []object{{"name": "eth0", "sandbox": space}},
		},
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(m.Bin, "portmap"))
	cmd.Stdin = strings.NewReader(string(config))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=pod2", "CNI_NETNS="+space, "CNI_IFNAME=eth0", "CNI_PATH="+m.Bin)
	_, err = start(cmd)
	return err
}
