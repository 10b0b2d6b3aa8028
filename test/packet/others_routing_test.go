//go:build kernel

package packet

import "fmt"

// elsewhere is a table of others that leads away from the cluster, but knows that pods and the LAN are found in the main
// table, with the rules that look it up.
func elsewhere(table string, rules ...string) routing {
	r := routing{
		"route add default via {ROUTER} dev eth0 table " + table,
		"route add throw {ALLPODS} table " + table,
		"route add throw {LAN} table " + table,
	}
	return append(r, rules...)
}

// othersRouting is policy rules and routes of others.
var othersRouting = append(
	rulesAt(1, 9, 100, 512, 1000, 1536, 5270, 20000),
	circumstance{
		name:    "a rule for all, pref 5270 (Tailscale's exit node)",
		changes: []change{elsewhere("52", "rule add pref 5270 lookup 52")},
	},
	circumstance{
		name:    "a rule for all, pref 100",
		changes: []change{elsewhere("102", "rule add pref 100 lookup 102")},
	},
	circumstance{
		name: "pods have a table of their own, pref 512 and 1536 (AWS VPC CNI)",
		changes: []change{routing{
			"route add default via {ROUTER} dev eth0 table 102",
			"rule add to {ALLPODS} pref 512 lookup main", "rule add from {ASKER} pref 1536 lookup 102", "rule add from {POD1} pref 1536 lookup 102",
		}},
	},
	circumstance{
		name: "wg-quick: all but its mark, suppress_prefixlength, src_valid_mark",
		changes: []change{
			wgQuickMarks, setting("net/ipv4/conf/all/src_valid_mark", "1"),
			routing{
				"route add default via {ROUTER} dev eth0 table 51820",
				"rule add not fwmark 51820 pref 32765 lookup 51820", "rule add pref 32764 lookup main suppress_prefixlength 0",
			},
		},
	},
	circumstance{
		name: "the same without priority, newer than ours, which go before them", moves: true,
		changes: []change{
			wgQuickMarks, setting("net/ipv4/conf/all/src_valid_mark", "1"),
			routing{
				"route add default via {ROUTER} dev eth0 table 51820",
				"rule add not fwmark 51820 lookup 51820", "rule add lookup main suppress_prefixlength 0",
			},
		},
	},
	circumstance{
		name: "rules for all without priority, newer than ours", moves: true,
		changes: []change{elsewhere("102", "rule add lookup 102", "rule add iif eth0 lookup 102", "rule add iif lo lookup 102")},
	},
	circumstance{
		name: "wg-quick at prefs 10 and 11", moves: true,
		changes: []change{routing{
			"route add default via {ROUTER} dev eth0 table 51820",
			"rule add pref 10 lookup main suppress_prefixlength 0", "rule add not fwmark 51820 pref 11 lookup 51820",
		}},
	},
	circumstance{
		name: "the table local at 100, and Cilium's rules before it", moves: true,
		changes: []change{
			routing{
				"route add default via {ROUTER} dev eth0 table 2004",
				"rule add fwmark 0xd00/0xf00 pref 1 lookup 2004", "rule add fwmark 0x200/0xf00 pref 9 lookup 2004", "rule add pref 100 lookup local",
			},
			script{
				there: "ip -4 rule del pref 0; ip -6 rule del pref 0",
				gone:  "ip -4 rule add pref 0 lookup local; ip -6 rule add pref 0 lookup local",
			},
		},
	},
	circumstance{
		name:    "others have routes to the ranges of cluster IPs and external addresses",
		changes: []change{routing{"route add {CLUSTERIPS} via {ROUTER} dev eth0 metric 50", "route add {EXTERNALIPS} via {ROUTER} dev eth0 metric 50"}},
	},
	circumstance{
		name:    "source rules for the LAN and external addresses, pref 100, whose table knows the pods",
		changes: []change{elsewhere("102", "rule add from {LAN} pref 100 lookup 102", "rule add from {EXTERNALIPS} pref 101 lookup 102")},
	},
)

// rulesAt is rules of every kind at each of the priorities: by source, by interface, for packets from outside and for the node's own.
func rulesAt(prefs ...int) (out []circumstance) {
	for _, pref := range prefs {
		var limits []limit
		if pref < 3 {
			limits = []limit{{
				reason: "our rules are at 3 to 6 at the earliest",
				of:     []string{"divert"},
				covers: func(c cell) bool { return c.external() && c.untranslated() && (c.from != fromNode || c.ownEndpoint()) },
			}}
		}
		out = append(out, circumstance{
			limits: limits,
			moves:  pref < 94,
			name:   fmt.Sprintf("rules by source and interface, pref %d", pref),
			changes: []change{elsewhere("102",
				fmt.Sprintf("rule add from {ASKER} pref %d lookup 102", pref), fmt.Sprintf("rule add iif calipod1 pref %d lookup 102", pref),
				fmt.Sprintf("rule add iif eth0 pref %d lookup 102", pref), fmt.Sprintf("rule add iif lo pref %d lookup 102", pref),
			)},
		})
	}
	return out
}

// othersSettings are settings of the kernel that distributions and other agents change.
var othersSettings = []circumstance{
	{name: "rp_filter=1", changes: []change{setting("net/ipv4/conf/*/rp_filter", "1")}},
	{name: "rp_filter=2", changes: []change{setting("net/ipv4/conf/*/rp_filter", "2")}},
	{name: "src_valid_mark=1", changes: []change{setting("net/ipv4/conf/*/src_valid_mark", "1")}, all: true},
	{name: "src_valid_mark=1, rp_filter=1", changes: []change{setting("net/ipv4/conf/*/src_valid_mark", "1", "net/ipv4/conf/*/rp_filter", "1")}},
	{name: "src_valid_mark=1, rp_filter=2", changes: []change{setting("net/ipv4/conf/*/src_valid_mark", "1", "net/ipv4/conf/*/rp_filter", "2")}},
	{name: "fwmark_reflect=1", changes: []change{setting("net/ipv4/fwmark_reflect", "1", "net/ipv6/fwmark_reflect", "1", "net/ipv4/tcp_fwmark_accept", "1")}},
	{name: "route_localnet=1, accept_local=1", changes: []change{setting("net/ipv4/conf/*/route_localnet", "1", "net/ipv4/conf/*/accept_local", "1")}},
	{name: "arp_ignore=1, arp_announce=2, arp_filter=1", changes: []change{
		setting("net/ipv4/conf/*/arp_ignore", "1", "net/ipv4/conf/*/arp_announce", "2", "net/ipv4/conf/*/arp_filter", "1"),
	}},
	{name: "tcp_loose=0, tcp_be_liberal=1, early_demux=0", changes: []change{
		setting("net/netfilter/nf_conntrack_tcp_loose", "0", "net/netfilter/nf_conntrack_tcp_be_liberal", "1", "net/ipv4/ip_early_demux", "0"),
	}},
}
