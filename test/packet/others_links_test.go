//go:build kernel

package packet

import (
	"net/netip"

	"kube-ipvs/internal/inet"
)

// othersLinks are links that nodes have beside, above and in the place of a plain uplink.
var othersLinks = []circumstance{
	{
		name: "a pod is in a VRF",
		changes: []change{
			script{
				there: `ip link add red up type vrf table 1001
					ip link set caliasker master red
					ip route add {ASKER4} dev caliasker; ip -6 route add {ASKER6} dev caliasker`,
				gone: `ip link set caliasker nomaster; ip link del red
					ip route replace {ASKER4} dev caliasker; ip -6 route replace {ASKER6} dev caliasker`,
			},
			elsewhere("1001"),
			setting("net/ipv4/tcp_l3mdev_accept", "1", "net/ipv4/udp_l3mdev_accept", "1"),
		},
		limits: []limit{{
			reason: "a pod in a VRF is reset by a program of the node that is an endpoint, as with kube-proxy's ipvs mode; why is not known",
			of:     []string{"divert", "bind", "ipvs"},
			covers: func(c cell) bool { return c.proto == inet.TCP && c.from == fromPod && c.ownEndpoint() },
		}},
	},
	{
		name:  "pods elsewhere are behind a tunnel",
		moves: true,
		changes: []change{
			script{
				there: `ip link add tun4 type ipip local {NODE4} remote {NODE24}; ip link add tun6 type sit local {NODE4} remote {NODE24}
					ip link set tun4 up; ip link set tun6 up; ip addr add 10.244.1.1/32 dev tun4; ip addr add fd00:10:244:1::1/128 dev tun6 nodad
					ip route replace {FARPODS4} dev tun4; ip -6 route del {FARPODS6}; ip -6 route add {FARPODS6} dev tun6`,
				gone: `ip link del tun4; ip link del tun6; ip route add {FARPODS4} via {NODE24}; ip -6 route add {FARPODS6} via {NODE26}`,
			},
			script{
				on: onNode2,
				there: `ip link add tun4 type ipip local {NODE24} remote {NODE4}; ip link add tun6 type sit local {NODE24} remote {NODE4}
					ip link set tun4 up; ip link set tun6 up
					ip route replace {PODS4} dev tun4; ip -6 route del {PODS6}; ip -6 route add {PODS6} dev tun6`,
				gone: `ip link del tun4; ip link del tun6; ip route add {PODS4} via {NODE4}; ip -6 route add {PODS6} via {NODE6}`,
			},
		},
	},
	{
		name:  "a second uplink comes later, with a table of its own, and external addresses by it",
		moves: true,
		changes: []change{
			script{
				on: onRouter,
				there: `ip link add uplink2 type veth peer name eth1 netns $PPID; ip link set uplink2 up
					ip addr add 192.168.78.1/24 dev uplink2; ip addr add fd00:192:168:78::1/64 dev uplink2 nodad`,
				gone: `ip link del uplink2`,
			},
			script{there: `ip addr add 192.168.78.11/24 dev eth1; ip addr add fd00:192:168:78::11/64 dev eth1 nodad; ip link set eth1 up; sleep 0.3`, gone: `true`},
			script{
				on:    onRouter,
				there: `ip route replace {EXTERNALIPS4} via 192.168.78.11; ip -6 route del {EXTERNALIPS6}; ip -6 route add {EXTERNALIPS6} via fd00:192:168:78::11`,
				gone:  `ip route replace {EXTERNALIPS4} via {NODE4}; ip -6 route del {EXTERNALIPS6}; ip -6 route add {EXTERNALIPS6} via {NODE6}`,
			},
			script{
				there: `ip rule add from 192.168.78.0/24 pref 300 lookup 103; ip route add default via 192.168.78.1 table 103; ip route add throw 10.244.0.0/16 table 103
					ip -6 rule add from fd00:192:168:78::/64 pref 300 lookup 103; ip -6 route add default via fd00:192:168:78::1 table 103
					ip -6 route add throw fd00:10:244::/48 table 103`,
				gone: `ip rule del pref 300; ip -6 rule del pref 300; ip route flush table 103; ip -6 route flush table 103`,
			},
		},
		more: func(tr *trial) (cells []cell) {
			for _, at := range []string{"192.168.78.11", "fd00:192:168:78::11"} {
				at := netip.AddrPortFrom(netip.MustParseAddr(at), 30000)
				for _, from := range sources {
					cells = append(cells, newCell(from, toNodePort, inet.TCP, at, rule{endpoints: situations[0].endpoints, inside: byCIDR}.truth(from, toNodePort)))
				}
			}
			return cells
		},
	},
}

// moveUplink moves what eth0 has to a link above it.
func moveUplink(link, create string) script {
	addresses := func(dev string) string {
		return `
			ip addr add {NODE4}/24 dev ` + dev + `; ip addr add {NODE6}/64 dev ` + dev + ` nodad
			ip route replace default via {ROUTER4}; ip -6 route replace default via {ROUTER6}
			ip route replace {FARPODS4} via {NODE24}; ip -6 route replace {FARPODS6} via {NODE26}; sleep 0.3`
	}
	return script{
		there: "ip addr flush dev eth0 scope global\n" + create + addresses(link),
		gone:  "ip link del " + link + "; ip link set eth0 up" + addresses("eth0"),
	}
}

// bridges are the pods' bridge with and without netfilter.
var bridges = []circumstance{
	{
		name: "bridge-nf-call-iptables=0", changes: []change{setting("net/bridge/bridge-nf-call-ip*tables", "0")},
		limits: []limit{{
			reason: "answers of a pod to another of its bridge, who asked a Service, do not come by the node's tables",
			of:     []string{"divert", "bind", "iptables", "ipvs"},
			covers: func(c cell) bool {
				return c.from == fromPod && c.to != toPod && c.want.fate == "answered" && !c.want.masqueraded && c.want.who[0].pod == "pod1"
			},
		}},
	},
	{name: "bridge-nf-call-iptables=1", changes: []change{setting("net/bridge/bridge-nf-call-ip*tables", "1")}},
}

// otherUplinks are found by the proxy when it starts, as they are on real nodes.
var otherUplinks = []circumstance{
	{
		name:   "the uplink is a bond",
		uplink: "bond0",
		changes: []change{moveUplink("bond0", `ip link add bond0 type bond mode active-backup miimon 100
			ip link set eth0 down; ip link set eth0 master bond0; ip link set bond0 up`)},
	},
	{
		name:   "the uplink is a VLAN",
		uplink: "eth0.5",
		changes: []change{
			script{
				on: onRouter,
				there: `ip link add link node1 name node1.5 type vlan id 5
					ip link set node1 nomaster; ip link set node1.5 master lan up`,
				gone: `ip link del node1.5; ip link set node1 master lan`,
			},
			moveUplink("eth0.5", `ip link add link eth0 name eth0.5 type vlan id 5; ip link set eth0.5 up`),
		},
	},
}
