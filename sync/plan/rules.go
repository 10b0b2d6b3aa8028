package plan

import (
	"fmt"
	"net/netip"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs/vip"
)

// A Detector tells sources inside the cluster from those outside: --detect-local-mode. Its zero value detects nothing,
// and nobody is inside.
type Detector struct {
	Prefixes  []netip.Prefix // by source address: the first of each family
	Interface string         // by interface: a name, or the beginning of one followed by "+"
}

// matches returns the matches of rules that find a source inside.
func (d Detector) matches(is4 bool) []string {
	var out []string
	for _, p := range d.Prefixes {
		if p.Addr().Is4() == is4 {
			out = append(out, fmt.Sprintf("-s %v", p))
		}
	}
	if d.Interface != "" {
		out = append(out, "-i "+d.Interface)
	}
	return out
}

// Detects says whether anybody can be found inside in a family.
func (d Detector) Detects(is4 bool) bool { return len(d.matches(is4)) > 0 }

// A RulesConfig is what the rules depend on. None of it depends on Services: the rules are a constant.
type RulesConfig struct {
	Marks    Marks
	Detector Detector
	Bind     bool // addresses are on the link: refuse what no Service claims there

	// PredictablePorts says that iptables is too old to let MASQUERADE choose ports at random (--random-fully).
	PredictablePorts bool
}

// Rules returns the rules of a family. A packet meets them like this:
//
//	from a pod or another host          from this node
//	  mangle PREROUTING                   mangle OUTPUT
//	    map the treatment; drop             drop; masquerade unless it is a cluster IP
//	    refuse orphans                        and nobody can be detected
//	  routing: divert bit -> here,          map the number of a second list
//	    refuse -> the link, FORWARD       IPVS
//	  mangle INPUT                        filter OUTPUT
//	    clear our bits                      refuse what IPVS has no connection for
//	    map the number of a second list
//	  IPVS
//	  nat INPUT
//	    note what IPVS has no connection for
//	both again, now to the endpoint: mangle OUTPUT, nat POSTROUTING
//	    masquerade if marked, if the node used a second list, or if an endpoint meets itself
func Rules(cfg RulesConfig, family ipset.Family) iptables.Ruleset {
	r := rules{cfg: cfg, sets: SetsOf(family), is4: family == ipset.IPv4}
	set := iptables.Ruleset{Family: iptables.IPv6}
	if r.is4 {
		set.Family = iptables.IPv4
	}
	set.Chains = []iptables.Chain{
		{Table: "mangle", Name: "KIPVS-PREROUTING", Rules: r.prerouting()},
		{Table: "mangle", Name: "KIPVS-GUARD", Rules: append(r.inside("-j RETURN"), unconnected+" -j DROP")},
		{Table: "mangle", Name: "KIPVS-CLUSTER", Rules: r.cluster()},
		{Table: "mangle", Name: "KIPVS-ORPHANS", Rules: r.orphans()},
		{Table: "mangle", Name: "KIPVS-INPUT", Rules: r.input()},
		{Table: "mangle", Name: "KIPVS-OUTPUT", Rules: r.output()},
		{Table: "nat", Name: "KIPVS-INPUT", Rules: []string{r.forgotten(fmt.Sprintf("-j CONNMARK --set-xmark %#x/%#[1]x", cfg.Marks.Divert))}},
		{Table: "nat", Name: "KIPVS-POSTROUTING", Rules: r.postrouting()},
		{Table: "nat", Name: "KIPVS-MASQUERADE", Rules: r.masquerade()},
		{Table: "filter", Name: "KIPVS-INPUT", Rules: r.filterInput()},
		{Table: "filter", Name: "KIPVS-ACCEPT", Rules: []string{fmt.Sprintf("-m set --match-set %s dst,dst -j ACCEPT", r.sets.Frontends.Name)}},
		{Table: "filter", Name: "KIPVS-FORWARD", Rules: []string{"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", refuseTCP, refuse}},
		{Table: "filter", Name: "KIPVS-OUTPUT", Rules: []string{translated + " -j RETURN", refuseTCP, refuse, r.forgotten(reset)}},
	}
	for _, j := range [][3]string{
		{"mangle", "PREROUTING", "KIPVS-PREROUTING"}, {"mangle", "INPUT", "KIPVS-INPUT"}, {"mangle", "OUTPUT", "KIPVS-OUTPUT"},
		{"nat", "INPUT", "KIPVS-INPUT"}, {"nat", "POSTROUTING", "KIPVS-POSTROUTING"},
		{"filter", "INPUT", "KIPVS-INPUT"}, {"filter", "FORWARD", "KIPVS-FORWARD"}, {"filter", "OUTPUT", "KIPVS-OUTPUT"},
	} {
		set.Jumps = append(set.Jumps, iptables.Jump{Table: j[0], From: j[1], To: j[2]})
	}
	// Frontends pass a filter whose policy is to drop, as IPVS takes their packets in INPUT. But what an administrator or a
	// network policy decides there comes before: kube-proxy accepts nothing but health-check node ports in their place.
	set.Jumps = append(set.Jumps, iptables.Jump{Table: "filter", From: "INPUT", To: "KIPVS-ACCEPT", Last: true})
	return set
}

// What was routed to the link is refused. TCP gets a reset: ICMP is only news about the way to a client whose connection
// stands, and it goes on trying.
const (
	reset     = "-j REJECT --reject-with tcp-reset"
	refuseTCP = "-o " + vip.LinkName + " -p tcp " + reset
	refuse    = "-o " + vip.LinkName + " -j REJECT"
)

type rules struct {
	cfg  RulesConfig
	sets Sets
	is4  bool
}

// marked matches packets by a treatment.
func (r rules) marked(t Treatment) string {
	return fmt.Sprintf("-m mark --mark %#x/%#x", r.cfg.Marks.Value(t), r.cfg.Marks.Mask())
}

// turn gives the bits of mask the value of a treatment in it.
func (r rules) turn(t Treatment, mask uint32) string {
	return fmt.Sprintf("-j MARK --set-xmark %#x/%#x", r.cfg.Marks.Value(t)&mask, mask)
}

// inside is one rule for each way to find a source inside.
func (r rules) inside(target string) []string {
	var out []string
	for _, m := range r.cfg.Detector.matches(r.is4) {
		out = append(out, m+" "+target)
	}
	return out
}

// unconnected matches packets that belong to no connection: new ones, and those of which conntrack can or may make nothing (INVALID,
// UNTRACKED), which IPVS would schedule all the same.
const unconnected = "-m conntrack ! --ctstate RELATED,ESTABLISHED"

// ranged drops what begins something with frontends from sources outside of their ranges.
func (r rules) ranged() string {
	return fmt.Sprintf("-m set --match-set %s dst,dst -m set ! --match-set %s dst,dst,src %s -j DROP", r.sets.Ranged.Name, r.sets.Allowed.Name, unconnected)
}

func mapped(set ipset.Set) string {
	return fmt.Sprintf("-j SET --map-set %s dst,dst --map-mark", set.Name)
}

// translated matches packets of connections that conntrack sends to an endpoint, which IPVS knows nothing of: kube-proxy
// made them in its iptables or nftables mode, or a rule for a host port before there was a frontend. In filter OUTPUT they
// still seem to go where they were routed first.
const translated = "-m conntrack --ctstate DNAT"

// prerouting maps a frontend's treatment onto packets from pods and other hosts. A frontend that refuses new connections
// goes on with those that stand, and one that is guarded is like any other for sources that passed the guard.
func (r rules) prerouting() []string {
	m := r.cfg.Marks
	return []string{
		translated + " -j RETURN",
		mapped(r.sets.Frontends),
		r.ranged(),
		r.marked(Refuse) + " -m conntrack ! --ctstate NEW " + r.turn(Divert, m.Mask()),
		fmt.Sprintf("-m conntrack --ctstate NEW -m connmark --mark %#x/%#[1]x -m mark --mark %#[1]x/%#[1]x -j KIPVS-ORPHANS", m.Divert),
		r.marked(GuardOutside) + " -j KIPVS-GUARD",
		r.marked(DivertGuard) + " -j KIPVS-GUARD",
		r.marked(DivertGuard) + " " + r.turn(Divert, m.Mask()),
		r.marked(DivertCluster) + " -j KIPVS-CLUSTER",
		r.once(),
	}
}

// Packets of TCP that begin a connection, and all others: "--syn" as iptables-save writes it.
const (
	onlySYN = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"
	notSYN  = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
)

// forgotten finds connections of TCP that IPVS has no entry for, where it let the packet pass: their real server was removed
// before they ended, or the whole table was flushed. It schedules a SYN only (sloppy_tcp is off: each ACK that somebody
// invents would be an entry for a day).
//
// In INPUT the packet goes on to the node's own TCP, which resets the connection where the address is the node's. An
// address of IPv4 that is not may not be the source of its reset (ip_route_output_key_hash_rcu), so the connection is marked,
// and its next packet refused in FORWARD. Nothing before IPVS tells whether it has an entry: conntrack may have lost a connection
// that IPVS keeps.
func (r rules) forgotten(target string) string {
	return fmt.Sprintf("%s -m conntrack --ctstate NEW -m set --match-set %s dst,dst %s", notSYN, r.sets.Frontends.Name, target)
}

// orphans refuses what forgotten marked and nobody answered: others may save the marks of packets in connections, ours with
// them. A client that uses the port again gets a new connection.
func (r rules) orphans() []string {
	m := r.cfg.Marks
	return []string{
		notSYN + " " + r.turn(Refuse, m.Mask()),
		fmt.Sprintf("%s -j CONNMARK --set-xmark 0x0/%#x", onlySYN, m.Divert),
	}
}

// cluster masquerades cluster-IP traffic from outside. Where nobody can be found inside, nobody is taken for outside.
func (r rules) cluster() []string {
	inside := r.inside("-j RETURN")
	if len(inside) == 0 {
		return nil
	}
	return append(inside, r.turn(Masquerade, r.cfg.Marks.Masquerade))
}

// input clears the bits that have done their work: IPVS routes the packet again, and the divert bit would bring it back
// here. The number of a second list comes last, since it is the whole mark.
func (r rules) input() []string {
	used := r.cfg.Marks.Divert | r.cfg.Marks.Inside
	return append([]string{r.turn(Plain, used)}, r.inside(mapped(r.sets.Inside))...)
}

// output is for the node's own packets, which are neither inside nor outside: they are masqueraded, and a Local external
// policy does not concern them. They need no diverting to get to IPVS, so ranges hold also while a frontend is off and its
// virtual server stands.
func (r rules) output() []string {
	m := r.cfg.Marks
	out := []string{
		r.ranged(),
		fmt.Sprintf("-m set ! --match-set %s dst,dst -j RETURN", r.sets.Frontends.Name),
		mapped(r.sets.Frontends),
	}
	if r.cfg.Detector.Detects(r.is4) || r.cfg.Bind {
		out = append(out, r.turn(Masquerade, m.Mask()))
	} else {
		// Without a detector cluster-IP traffic keeps its source. (In bind mode the node's source is the cluster IP
		// itself, which no endpoint could answer.)
		out = append(out,
			fmt.Sprintf("-m mark ! --mark %#x/%#x %s", m.Value(DivertCluster), m.Mask(), r.turn(Masquerade, m.Mask())),
			r.marked(DivertCluster)+" "+r.turn(Plain, m.Mask()))
	}
	return append(out, r.once(), mapped(r.sets.Inside))
}

// once takes the masquerade bit from packets of connections that stand: only the first packet decides about the source,
// and a packet that a tunnel wraps would carry the bit to the wrapping.
func (r rules) once() string {
	return "-m conntrack ! --ctstate NEW " + r.turn(Plain, r.cfg.Marks.Masquerade)
}

func (r rules) postrouting() []string {
	m := r.cfg.Marks
	return []string{
		fmt.Sprintf("-m mark --mark %#x/%#[1]x -j KIPVS-MASQUERADE", m.Masquerade),
		fmt.Sprintf("-m mark --mark %#x/%#x -m ipvs --ipvs -m addrtype --src-type LOCAL -j KIPVS-MASQUERADE", m.Inside, m.Mask()),
		fmt.Sprintf("-m set --match-set %s dst,dst,src -j KIPVS-MASQUERADE", r.sets.Hairpins.Name),
	}
}

// masquerade clears the mark first, so that a packet that a tunnel sends through the stack again is not masqueraded a
// second time.
func (r rules) masquerade() []string {
	m := r.cfg.Marks
	target := "-j MASQUERADE --random-fully"
	if r.cfg.PredictablePorts {
		target = "-j MASQUERADE"
	}
	return []string{r.turn(Plain, m.Masquerade|m.Inside), target}
}

// filterInput lets health-check node ports through, whatever the filter, as kube-proxy does. In bind mode it refuses what no
// frontend claims on bound addresses, before anybody accepts a port on all addresses of the node.
func (r rules) filterInput() []string {
	out := []string{fmt.Sprintf("-m set --match-set %s dst,dst -j ACCEPT", r.sets.Probed.Name)}
	if r.cfg.Bind {
		ping := "icmp"
		if !r.is4 {
			ping = "ipv6-icmp"
		}
		out = append(out,
			fmt.Sprintf("-m set --match-set %s dst,dst -j RETURN", r.sets.Frontends.Name),
			fmt.Sprintf("-m set --match-set %s dst ! -p %s -m conntrack --ctstate NEW -j REJECT", r.sets.Addresses.Name, ping))
	}
	return out
}
