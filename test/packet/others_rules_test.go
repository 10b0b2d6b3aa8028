//go:build kernel

package packet

// The kernel's own chains, by table, where others put rules that drop or accept.
var (
	mangleChains = kernels
	filterChains = []string{"INPUT", "FORWARD", "OUTPUT"}
)

const (
	acceptEstablished = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
	dropInvalid       = "-m conntrack --ctstate INVALID -j DROP"
	dropUnreturnable  = "-m rpfilter --validmark --invert -j DROP"
)

// othersRules are rules of netfilter that agents, routers and firewalls have.
var othersRules = []circumstance{
	{
		name:    "established is accepted first in mangle PREROUTING (Calico)",
		changes: []change{ruleset{first("mangle", "PREROUTING", acceptEstablished)}},
		all:     true,
	},
	{
		name: "established is accepted first in every chain of mangle and filter",
		changes: []change{
			inEach(first, "mangle", acceptEstablished, mangleChains...),
			inEach(first, "filter", acceptEstablished, filterChains...),
		},
		limits: []limit{{
			reason: "the node's own packets to an external address are led to the loopback link by a mark on each; others' chain before ours ends that",
			of:     []string{"divert"},
			covers: func(c cell) bool { return c.from == fromNode && c.external() && c.ownEndpoint() },
		}},
	},
	{
		name:    "invalid is dropped first in every chain of mangle and filter",
		changes: []change{inEach(first, "mangle", dropInvalid, mangleChains...), inEach(first, "filter", dropInvalid, filterChains...)},
	},
	{
		name:    "invalid is dropped last in every chain of mangle and filter",
		changes: []change{inEach(last, "mangle", dropInvalid, mangleChains...), inEach(last, "filter", dropInvalid, filterChains...)},
	},
	{
		name:    "rpfilter --validmark, first in raw",
		changes: []change{ruleset{first("raw", "PREROUTING", dropUnreturnable)}},
	},
	{
		name:    "rpfilter --validmark, last in raw",
		changes: []change{ruleset{last("raw", "PREROUTING", dropUnreturnable)}},
	},
	{
		name:    "rpfilter --validmark, first in mangle (NixOS before us)",
		changes: []change{ruleset{first("mangle", "PREROUTING", dropUnreturnable)}},
	},
	{
		name:    "rpfilter --validmark, last in mangle (NixOS, restarted after us)",
		changes: []change{ruleset{last("mangle", "PREROUTING", dropUnreturnable)}},
	},
	{
		name: "Flannel masquerades first in nat POSTROUTING",
		changes: []change{ruleset{
			first("nat", "POSTROUTING", "-j FLANNEL-POSTRTG"),
			last("nat", "FLANNEL-POSTRTG", "-m mark --mark 0x4000/0x4000 -j RETURN"),
			last("nat", "FLANNEL-POSTRTG", "-s {PODS} -d {ALLPODS} -j RETURN"),
			last("nat", "FLANNEL-POSTRTG", "-s {ALLPODS} -d {PODS} -j RETURN"),
			last("nat", "FLANNEL-POSTRTG", "! -s {ALLPODS} -d {PODS} -j RETURN"),
			last("nat", "FLANNEL-POSTRTG", "-s {ALLPODS} ! -d {MULTICAST} -j MASQUERADE"),
			last("nat", "FLANNEL-POSTRTG", "! -s {ALLPODS} -d {ALLPODS} -j MASQUERADE"),
		}},
		marked: true,
	},
	{
		name:    "pods are masqueraded first in nat POSTROUTING on their way out (Calico)",
		changes: []change{ruleset{first("nat", "POSTROUTING", "-s {PODS} ! -d {ALLPODS} -j MASQUERADE")}},
		marked:  true,
	},
}

// othersMarks are marks of others, on packets and on connections.
var othersMarks = []circumstance{
	{
		name:    "whole marks of UDP are restored first in mangle PREROUTING (wg-quick)",
		changes: []change{wgQuickMarks},
	},
	{
		name: "whole marks are restored first, saved last",
		changes: []change{
			inEach(first, "mangle", "-j CONNMARK --restore-mark", "PREROUTING", "OUTPUT"), inEach(last, "mangle", "-j CONNMARK --save-mark", "POSTROUTING"),
		},
	},
	{
		name: "whole marks are restored first, saved first",
		changes: []change{
			inEach(first, "mangle", "-j CONNMARK --restore-mark", "PREROUTING", "OUTPUT"), inEach(first, "mangle", "-j CONNMARK --save-mark", "POSTROUTING"),
		},
	},
	{
		name: "whole marks are restored last, saved last (two uplinks, by the book)",
		changes: []change{
			inEach(last, "mangle", "-j CONNMARK --restore-mark", "PREROUTING", "OUTPUT"), inEach(last, "mangle", "-j CONNMARK --save-mark", "POSTROUTING"),
		},
	},
	{
		name:    "marks in every chain of filter (Felix)",
		changes: []change{inEach(first, "filter", "-j MARK --set-xmark 0x5a500000/0xfff00000", filterChains...)},
		all:     true,
	},
	{
		name: "marks are cleared first in raw and mangle (Felix)",
		changes: []change{
			inEach(first, "raw", "-j MARK --set-xmark 0x0/0xfff00000", "PREROUTING", "OUTPUT"),
			inEach(first, "mangle", "-j MARK --set-xmark 0x0/0xfff00000", "PREROUTING", "POSTROUTING"),
		},
	},
	{
		name: "connections that come in by the uplink are marked (AWS VPC CNI)",
		changes: []change{
			ruleset{
				last("mangle", "PREROUTING", "-i eth0 -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80"),
				last("mangle", "PREROUTING", "-i cali+ -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"),
				last("nat", "PREROUTING", "-i cali+ ! -d {ALLPODS} -j CONNMARK --set-xmark 0x80/0x80"),
				last("nat", "PREROUTING", "-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"),
			},
			routing{"rule add fwmark 0x80/0x80 pref 1024 lookup main"},
		},
	},
	{
		name: "Tailscale's marks and rules, with src_valid_mark",
		changes: []change{
			ruleset{
				first("mangle", "PREROUTING", "-m conntrack --ctstate RELATED,ESTABLISHED -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000"),
				first("mangle", "OUTPUT", "-m conntrack --ctstate NEW -m mark ! --mark 0x0/0xff0000 -j CONNMARK --save-mark --nfmask 0xff0000 --ctmask 0xff0000"),
				last("nat", "POSTROUTING", "-m mark --mark 0x40000/0xff0000 -j MASQUERADE"),
			},
			elsewhere("52", "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main", "rule add pref 5270 lookup 52"),
			setting("net/ipv4/conf/all/src_valid_mark", "1"),
		},
	},
	{
		name:    "mark 0x8000 is dropped in filter (an old kubelet)",
		changes: []change{inEach(first, "filter", "-m mark --mark 0x8000/0x8000 -j DROP", filterChains...)},
	},
	strangersMark("0x1000"),
	strangersMark("0x0010"),
	strangersMark("0x4000"),
	strangersMark("0x8000"),
}

var wgQuickMarks = ruleset{
	first("mangle", "PREROUTING", "-p udp -j CONNMARK --restore-mark"),
	first("mangle", "POSTROUTING", "-p udp -m mark --mark 51820 -j CONNMARK --save-mark"),
}

// strangersMark is packets for no Service, and answers of all pods, that arrive with a bit of a mark.
func strangersMark(bit string) circumstance {
	set := " -j MARK --set-xmark " + bit + "/" + bit
	return circumstance{
		name: "packets for no Service carry " + bit,
		changes: []change{ruleset{
			first("raw", "PREROUTING", "-d {ALLPODS}"+set),
			first("raw", "PREROUTING", "-p tcp --sport 8080"+set),
			first("raw", "PREROUTING", "-p tcp --dport 2222"+set),
			first("raw", "PREROUTING", "-p udp --dport 2222"+set),
			first("raw", "OUTPUT", "-d {ALLPODS} -m addrtype --src-type LOCAL -m ipvs ! --ipvs"+set),
			first("raw", "OUTPUT", "-p tcp --dport 2222"+set),
		}},
		marked: true,
	}
}

// limitOfForward is that kube-proxy's iptables mode has FORWARD accept only what is masqueraded.
var limitOfForward = limit{
	reason: "the CNI plugin must have FORWARD accept what goes to pods",
	of:     []string{"iptables"},
	covers: func(c cell) bool {
		return c.from != fromNode && c.want.fate == "answered" && !c.want.masqueraded && c.want.who[0].pod == "pod1"
	},
}

// firewalls keep all closed that nobody opens. Those of real nodes let in what comes from the node itself, what belongs to
// connections, what neighbour discovery needs, and what the operator opens: here, the port of the program that is an endpoint.
var firewalls = []circumstance{
	{
		name:    "INPUT's policy is DROP",
		changes: []change{opened, policies("INPUT")},
		closed:  hostIsClosed,
		all:     true,
	},
	{
		name:    "FORWARD's policy is DROP",
		changes: []change{policies("FORWARD")},
		closed:  forwardIsClosed,
		all:     true,
		limits:  []limit{limitOfForward},
	},
	{
		name:    "what is not for a LOCAL address is dropped in INPUT (ufw)",
		changes: []change{notLocal(last)},
	},
	{
		name:    "the same, first",
		changes: []change{notLocal(first)},
		limits: []limit{{
			reason: "a diverted address is no LOCAL one, and a rule that comes first later comes before ours until that is put back",
			of:     []string{"divert"},
			covers: func(c cell) bool {
				return (c.external() || c.to == toLoadOfNode2) && c.from != fromNode && c.untranslated()
			},
		}},
	},
	{
		name:    "INPUT ends in REJECT, behind us",
		changes: []change{opened, ruleset{last("filter", "INPUT", "-j REJECT")}},
		closed:  hostIsClosed,
	},
	{
		name: "Docker's FORWARD",
		changes: []change{policies("FORWARD"), ruleset{
			first("filter", "FORWARD", acceptEstablished),
			first("filter", "FORWARD", "-o docker0 -j DROP"),
		}},
		closed: forwardIsClosed,
		limits: []limit{limitOfForward},
	},
}

// notLocal is what ufw does: its chains are appended to the kernel's own.
func notLocal(put func(table, chain, spec string) netfilterRule) ruleset {
	return ruleset{
		put("filter", "INPUT", acceptEstablished),
		put("filter", "INPUT", "-j ufw-not-local"),
		last("filter", "ufw-not-local", "-m addrtype --dst-type LOCAL -j RETURN"),
		last("filter", "ufw-not-local", "-m addrtype --dst-type MULTICAST -j RETURN"),
		last("filter", "ufw-not-local", "-j DROP"),
	}
}

var opened = ruleset{
	first("filter", "INPUT", acceptEstablished),
	first("filter", "INPUT", "-i lo -j ACCEPT"),
	first("filter", "INPUT", "-p {ICMP} -j ACCEPT"),
	first("filter", "INPUT", "-p tcp --dport 6443 -j ACCEPT"),
	first("filter", "INPUT", "-p udp --dport 6443 -j ACCEPT"),
}

func hostIsClosed(c cell) bool { return c.to == toHostPort && c.from != fromNode }

// ownEndpoint reports whether the node itself answers.
func (c cell) ownEndpoint() bool { return len(c.want.who) > 0 && c.want.who[0].pod == "node1" }

// untranslated reports whether the cell is answered, and passes INPUT with the address that was asked: those from inside to a
// Local policy have another by then.
func (c cell) untranslated() bool {
	return c.want.fate == "answered" && !(c.rule.externalLocal && c.rule.inside[c.from])
}

func forwardIsClosed(c cell) bool { return (c.to == toPod || c.to == toNode2) && c.from != fromNode }

// policies makes chains of filter drop by default.
func policies(chains ...string) change {
	var s script
	for _, chain := range chains {
		for _, program := range []string{"iptables", "ip6tables"} {
			s.there += program + " -w -P " + chain + " DROP\n"
			s.gone += program + " -w -P " + chain + " ACCEPT\n"
		}
	}
	return s
}

// hostPorts are rules that lead a port of the node's addresses to a pod, as portmap's and Docker's: the port is that of a
// Service's addresses too, and of its node port. They concern no Service.
var hostPorts = []circumstance{
	{name: "host ports by DNAT, behind us (portmap)", changes: []change{hostPortRules(last)}, all: true},
	{name: "host ports by DNAT, first", changes: []change{hostPortRules(first)}, limits: []limit{
		{
			reason: "a rule that comes first later comes before any proxy's, and these addresses are the node's own",
			of:     []string{"divert", "bind", "iptables", "ipvs"},
			covers: func(c cell) bool { return c.to == toLoadOfNode || c.to == toNodePort && c.at.Port() == 30000 },
		},
		{
			reason: "cluster IPs are LOCAL, too",
			of:     []string{"divert", "bind", "ipvs"},
			covers: func(c cell) bool { return c.to == toClusterIP },
		},
		{
			reason: "so is all that is bound",
			of:     []string{"bind", "ipvs"},
			covers: cell.external,
		},
	}},
}

func hostPortRules(put func(table, chain, spec string) netfilterRule) ruleset {
	var out ruleset
	for _, port := range []string{"-p tcp --dport 80", "-p udp --dport 80", "-p tcp --dport 30000"} {
		out = append(out, inEach(put, "nat", "-m addrtype --dst-type LOCAL "+port+" -j DNAT --to-destination {POD2:8080}", "PREROUTING", "OUTPUT")...)
	}
	return out
}

// before is rules that a proxy finds when it starts: behind its own where it puts them first, before where it puts them last.
var before = []circumstance{
	{name: "host ports by DNAT", changes: []change{hostPortRules(last)}},
	{name: "what is not for a LOCAL address is dropped in INPUT (ufw)", changes: []change{notLocal(last)}},
	{name: "INPUT and FORWARD end in REJECT", changes: []change{opened, ruleset{
		last("filter", "INPUT", "-j REJECT"), last("filter", "FORWARD", acceptEstablished), last("filter", "FORWARD", "-j REJECT"),
	}}, closed: func(c cell) bool { return hostIsClosed(c) || forwardIsClosed(c) }, limits: []limit{limitOfForward, {
		reason: "IPVS takes packets for the node's own addresses behind INPUT, where the operator must open node ports",
		of:     []string{"divert", "bind", "ipvs"},
		covers: func(c cell) bool {
			return (c.to == toNodePort || c.to == toLoadOfNode) && c.from != fromNode && c.untranslated()
		},
	}}},
}
