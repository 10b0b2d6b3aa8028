package ipvsmode

import (
	"fmt"
	"net/netip"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs/steering"
)

// A Detector tells internal sources from external ones: --detect-local-mode. Its zero value detects nothing,
// and no source is internal.
type Detector struct {
	Prefixes  []netip.Prefix // by source address: the first of each family
	Interface string         // by interface: a name, or the beginning of one followed by "+"
}

// matches returns the matches of rules for internal sources.
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

// Detects reports whether internal sources can be found in a family.
func (d Detector) Detects(is4 bool) bool { return len(d.matches(is4)) > 0 }

// RulesConfig configures the rules. None of it depends on Services: the rules are a constant.
type RulesConfig struct {
	Marks    Marks
	Detector Detector
	Bind     bool // addresses are on the link: reject unclaimed packets there

	// HandedBack leaves new connections to kube-proxy, whose rules translate or refuse them, and serves those that began before.
	HandedBack bool

	// Quiesced, beside HandedBack, leaves source ranges to kube-proxy, too: IPVS schedules nothing any more.
	Quiesced bool

	// PredictablePorts is for an iptables that is too old to let MASQUERADE choose ports at random (--random-fully).
	PredictablePorts bool
}

// Rules returns the rules of a family. A packet meets them like this:
//
//	from a pod or another host            from this node
//	  raw PREROUTING                        mangle OUTPUT
//	    mark diverted packets                 first packet: source ranges, masquerade
//	  mangle PREROUTING                       mark diverted packets
//	    first packet: source ranges,        nat OUTPUT
//	      treatment                           first packet: reject, alias, else keep
//	    mark diverted packets again         IPVS
//	  nat PREROUTING                        filter OUTPUT
//	    first packet: reject, alias,          packets to reject, and unknown to IPVS
//	      else keep
//	  routing: here
//	  filter INPUT
//	    reject unclaimed packets; accept
//	  IPVS
//	  nat INPUT
//	    mark connections unknown to IPVS
//	both again, now to the endpoint: mangle OUTPUT, which removes the mark, and nat POSTROUTING
//
// If a decision is made only once for a connection, its other packets pay for one conntrack match, and the first packet of one for no
// Service for that and two set look-ups.
func Rules(cfg RulesConfig, family inet.Family) iptables.Ruleset {
	r := rules{cfg: cfg, sets: SetsOf(family), family: family, is4: family == inet.IPv4}
	set := iptables.Ruleset{Family: family}
	set.Chains = []iptables.Chain{
		{Table: "raw", Name: "KIPVS-PREROUTING", Rules: r.diverted(r.divert())},
		{Table: "mangle", Name: "KIPVS-PREROUTING", Rules: r.manglePrerouting()},
		{Table: "mangle", Name: "KIPVS-GUARD", Rules: append(r.internal("-j RETURN"), "-j DROP")},
		{Table: "mangle", Name: "KIPVS-CLUSTER", Rules: r.cluster()},
		{Table: "mangle", Name: "KIPVS-DIVERT", Rules: r.divertAgain()},
		{Table: "mangle", Name: "KIPVS-OUTPUT", Rules: r.mangleOutput()},
		{Table: "mangle", Name: "KIPVS-OWN", Rules: r.own()},
		{Table: "nat", Name: "KIPVS-PREROUTING", Rules: r.natPrerouting()},
		{Table: "nat", Name: "KIPVS-REJECT", Rules: r.reject()},
		{Table: "nat", Name: "KIPVS-INPUT", Rules: r.diverted(r.unknownToIPVS(r.sets.External, setConnmark(cfg.Marks.Own, cfg.Marks.Own)))},
		{Table: "nat", Name: "KIPVS-OUTPUT", Rules: r.natOutput()},
		{Table: "nat", Name: "KIPVS-POSTROUTING", Rules: r.postrouting()},
		{Table: "nat", Name: "KIPVS-MASQUERADE", Rules: r.masquerade()},
		{Table: "filter", Name: "KIPVS-INPUT", Rules: r.filterInput()},
		{Table: "filter", Name: "KIPVS-LOCAL", Rules: r.filterLocal()},
		{Table: "filter", Name: "KIPVS-EXTERNAL", Rules: r.diverted(notSYN+" "+r.connmark(cfg.Marks.Own)+" "+reset, "-j ACCEPT")},
		{Table: "filter", Name: "KIPVS-ACCEPT", Rules: []string{matchSet(r.sets.Frontends, "dst,dst") + " -j ACCEPT"}},
		{Table: "filter", Name: "KIPVS-FORWARD", Rules: []string{known + " -j ACCEPT", toLink + " -p tcp " + reset, toLink + " -j REJECT"}},
		{Table: "filter", Name: "KIPVS-OUTPUT", Rules: r.filterOutput()},
	}
	if cfg.HandedBack {
		set.Chains = r.withoutNew(set.Chains)
	}
	set.Jumps = []iptables.Jump{
		{Table: "raw", From: "PREROUTING", To: "KIPVS-PREROUTING"},
		{Table: "mangle", From: "PREROUTING", To: "KIPVS-PREROUTING", Match: unknown},
		{Table: "mangle", From: "PREROUTING", To: "KIPVS-DIVERT", Match: r.connmark(cfg.Marks.Divert), Last: true}, // others may have written the whole mark
		{Table: "mangle", From: "PREROUTING", To: "KIPVS-DIVERT", Match: r.notDiverted(), Last: true},
		{Table: "mangle", From: "OUTPUT", To: "KIPVS-OUTPUT"},
		{Table: "nat", From: "PREROUTING", To: "KIPVS-PREROUTING"},
		{Table: "nat", From: "INPUT", To: "KIPVS-INPUT"},
		{Table: "nat", From: "OUTPUT", To: "KIPVS-OUTPUT"},
		{Table: "nat", From: "POSTROUTING", To: "KIPVS-POSTROUTING"},
		{Table: "filter", From: "INPUT", To: "KIPVS-INPUT", Behind: policyAgents},
		{Table: "filter", From: "INPUT", To: "KIPVS-ACCEPT", Last: true},
		{Table: "filter", From: "FORWARD", To: "KIPVS-FORWARD"},
		{Table: "filter", From: "OUTPUT", To: "KIPVS-OUTPUT", Match: unknown},
	}
	return withoutEmpty(set)
}

// withoutEmpty leaves out chains without rules, and the jumps to them.
func withoutEmpty(set iptables.Ruleset) iptables.Ruleset {
	for _, c := range set.Chains {
		if len(c.Rules) == 0 {
			set.Jumps = slices.DeleteFunc(set.Jumps, func(j iptables.Jump) bool { return j.Table == c.Table && j.To == c.Name })
		}
	}
	set.Chains = slices.DeleteFunc(set.Chains, func(c iptables.Chain) bool { return len(c.Rules) == 0 })
	return set
}

// policyAgents are chains of agents that enforce network policies, and must see packets in INPUT before they are accepted: Calico's
// Felix marks the sender of a packet for IPVS there, and applies the policy behind IPVS by that mark.
var policyAgents = []string{"cali-INPUT", "KUBE-ROUTER-INPUT"}

// A rejected TCP connection gets a reset: to a client of an established one ICMP is a soft error, and it goes on trying; over IPv6 it is
// one to a connecting client, too.
const (
	reset  = "-j REJECT --reject-with tcp-reset"
	toLink = "-o " + steering.LinkName
)

// Packets by conntrack's state of their connection. Unknown ones are new, or INVALID or UNTRACKED, which IPVS would schedule all the
// same.
const (
	known   = "-m conntrack --ctstate RELATED,ESTABLISHED"
	unknown = "-m conntrack ! --ctstate RELATED,ESTABLISHED"
)

// Packets that IPVS sends on, and all others.
const (
	sent    = "-m ipvs --ipvs"
	notSent = "-m ipvs ! --ipvs"
)

// Packets of TCP that begin a connection, and all others: "--syn" as iptables-save writes it.
const (
	onlySYN = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"
	notSYN  = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
)

type rules struct {
	cfg    RulesConfig
	sets   Sets
	family inet.Family
	is4    bool
}

func matchSet(s ipset.Set, of string) string {
	return fmt.Sprintf("-m set --match-set %s %s", s.Name, of)
}

func matchNoSet(s ipset.Set, of string) string {
	return fmt.Sprintf("-m set ! --match-set %s %s", s.Name, of)
}

// setMark gives the bits of mask in a packet's mark a value.
func setMark(value, mask uint32) string {
	return fmt.Sprintf("-j MARK --set-xmark %#x/%#x", value, mask)
}

// setConnmark gives the bits of mask in a connection's mark a value.
func setConnmark(value, mask uint32) string {
	return fmt.Sprintf("-j CONNMARK --set-xmark %#x/%#x", value, mask)
}

func (r rules) connmark(bit uint32) string { return fmt.Sprintf("-m connmark --mark %#x/%#[1]x", bit) }

// treated matches packets by a treatment.
func (r rules) treated(t Treatment) string {
	return fmt.Sprintf("-m mark --mark %#x/%#x", r.cfg.Marks.Value(t), r.cfg.Marks.Mask())
}

// mapped writes a frontend's treatment into the packet's mark.
func (r rules) mapped() string {
	return fmt.Sprintf("-j SET --map-set %s dst,dst --map-mark", r.sets.Frontends.Name)
}

// internal returns one rule for each match of internal sources.
func (r rules) internal(rest string) []string {
	var out []string
	for _, m := range r.cfg.Detector.matches(r.is4) {
		out = append(out, m+" "+rest)
	}
	return out
}

// ranged drops connections to frontends from sources outside of their ranges, also to one that is off: IPVS looks at no set, and has its
// server before it is on, and after it is off.
func (r rules) ranged() string {
	return matchSet(r.sets.Ranged, "dst,dst") + " " + matchNoSet(r.sets.Allowed, "dst,dst,src") + " -j DROP"
}

// manglePrerouting decides about the first packet of a connection from a pod or another host. Decisions are kept in the mark of
// the connection: others may write the whole mark of the packet, or restore it from there.
func (r rules) manglePrerouting() []string {
	m := r.cfg.Marks
	kept := m.Divert | m.Masquerade
	return slices.Concat([]string{r.ranged(), matchNoSet(r.sets.Frontends, "dst,dst") + " -j RETURN"}, r.diverted(r.divert()), []string{
		r.mapped(),
		r.treated(DropExternal) + " -j KIPVS-GUARD",
		r.treated(MasqueradeExternal) + " -j KIPVS-CLUSTER",
		setMark(0, m.Own),
		fmt.Sprintf("-j CONNMARK --save-mark --nfmask %#x --ctmask %#[1]x", kept),
		onlySYN + " " + setConnmark(0, m.Own), // a client that uses its port again gets a new connection
	})
}

// cluster keeps the source of cluster-IP traffic from pods. If internal sources cannot be found, none counts as external.
func (r rules) cluster() []string {
	keep := setMark(0, r.cfg.Marks.Masquerade)
	if inside := r.internal(keep); len(inside) > 0 {
		return inside
	}
	return []string{keep}
}

// mangleOutput is for the node's own packets. They are routed again if their mark changes, here to the loopback link, as IPVS needs it:
// it keeps a packet's route if the real server is on this node. If it is elsewhere, the packet comes here once more on its way there,
// and must lose the mark: a tunnel would copy it to the outer packet, which may go to an address that is a load balancer's here. In
// other connections the bit is somebody else's.
//
// All that IPVS sends on passes here, also others' packets. Its destination is an endpoint by now, whose address and port may be a
// frontend, too: no decision and no mark for the frontend is meant for it.
func (r rules) mangleOutput() []string {
	own := r.cfg.Marks.Own
	return slices.Concat(
		r.diverted(fmt.Sprintf("-m mark --mark %#x/%#[1]x %s %s", own, r.connmark(own), setMark(0, own))),
		[]string{sent + " -j RETURN", unknown + " -j KIPVS-OWN"},
		r.diverted(matchSet(r.sets.External, "dst,dst")+" -m conntrack --ctdir ORIGINAL "+setMark(own, own)))
}

// own decides about the first packet of a connection of the node itself, which is neither internal nor external: it is masqueraded,
// and a Local external policy does not concern it.
func (r rules) own() []string {
	m := r.cfg.Marks
	out := []string{r.ranged(), matchNoSet(r.sets.Frontends, "dst,dst") + " -j RETURN"}
	if !r.cfg.Detector.Detects(r.is4) && !r.cfg.Bind {
		// Without a detector cluster-IP traffic keeps its source. (In bind mode the node's source is the cluster IP
		// itself, which no endpoint could answer.)
		out = append(out, r.mapped(),
			r.treated(KeepSource)+" "+setMark(m.Masquerade, m.Mask()),
			r.treated(MasqueradeExternal)+" "+setMark(0, m.Mask()),
			fmt.Sprintf("-m mark --mark %#x/%#x -j RETURN", 0, m.Mask()))
	}
	out = append(out, setMark(m.Masquerade, m.Masquerade), setConnmark(m.Masquerade, m.Masquerade))
	return append(out, r.diverted(matchSet(r.sets.External, "dst,dst")+" "+setConnmark(m.Own, m.Own))...)
}

// reject translates packets to be rejected.
func (r rules) reject() []string {
	return []string{
		fmt.Sprintf("-p tcp -j DNAT --to-destination %v", RejectTCP(r.family)),
		fmt.Sprintf("-j DNAT --to-destination %v", inet.RejectAddr(r.family)),
	}
}

// natPrerouting decides where the first packet of a connection goes. Frontends are accepted, so that no rule of others
// translates them, such as for a host port of the same number.
func (r rules) natPrerouting() []string {
	return r.translate(r.internal(r.aliased()))
}

func (r rules) natOutput() []string { return r.translate([]string{r.aliased()}) }

func (r rules) aliased() string {
	return fmt.Sprintf("%s -j NETMAP --to %v", matchSet(r.sets.Internal, "dst,dst"), inet.AliasRange(r.family))
}

func (r rules) translate(aliased []string) []string {
	out := append([]string{matchSet(r.sets.Rejected, "dst,dst") + " -j KIPVS-REJECT"}, aliased...)
	out = append(out, matchSet(r.sets.Frontends, "dst,dst")+" -j ACCEPT")
	if r.cfg.Bind {
		out = append(out, r.pings()+" -j ACCEPT")
	}
	return append(out, matchSet(r.sets.Closed, "dst")+" -j KIPVS-REJECT")
}

// pings matches pings of bound addresses, which are for the host to answer.
func (r rules) pings() string {
	ping := "icmp"
	if !r.is4 {
		ping = "ipv6-icmp"
	}
	return "-p " + ping + " " + matchSet(r.sets.Addresses, "dst")
}

// unknownToIPVS finds TCP connections without an entry in IPVS, after it let the packet pass: their real server was removed
// before they ended, or the whole table was flushed. It schedules a SYN only (sloppy_tcp is off: each forged ACK would be
// an entry for a day).
//
// In INPUT the packet goes on to the node's own TCP, which resets the connection where the address is local. A diverted one
// of IPv4 may not be the source of its reset (ip_route_output_key_hash_rcu), so the connection is marked, and its next
// packet rejected in INPUT. Nothing before IPVS can tell whether it has an entry: conntrack may have lost a connection that
// IPVS keeps.
func (r rules) unknownToIPVS(in ipset.Set, target string) string {
	return fmt.Sprintf("%s -m conntrack --ctstate NEW %s %s", notSYN, matchSet(in, "dst,dst"), target)
}

func (r rules) postrouting() []string {
	m := r.cfg.Marks.Masquerade
	return append([]string{
		fmt.Sprintf("-m mark --mark %#x/%#[1]x -j KIPVS-MASQUERADE", m),
		"-m conntrack --ctdir ORIGINAL " + r.connmark(m) + " -j KIPVS-MASQUERADE", // but no ICMP error that answers it
		matchSet(r.sets.Hairpins, "dst,dst,src") + " -j KIPVS-MASQUERADE",
	}, r.pickUp()...)
}

// masquerade clears the marks first, so that a packet that passes the stack again in a tunnel is not masqueraded twice.
func (r rules) masquerade() []string {
	m := r.cfg.Marks.Masquerade
	target := "-j MASQUERADE --random-fully"
	if r.cfg.PredictablePorts {
		target = "-j MASQUERADE"
	}
	return []string{setMark(0, m), setConnmark(0, m), target}
}

// filterInput accepts packets that firewalls cannot mean: in other modes these never pass INPUT. Those for an address of the node
// itself come behind firewall rules (KIPVS-ACCEPT), but for health-check node ports, which kube-proxy accepts, too.
func (r rules) filterInput() []string {
	return slices.Concat(
		[]string{matchSet(r.sets.Local, "dst") + " -j KIPVS-LOCAL"},
		r.diverted(matchSet(r.sets.External, "dst,dst")+" -j KIPVS-EXTERNAL"),
		[]string{matchSet(r.sets.Health, "dst,dst") + " -j ACCEPT"})
}

// filterLocal rejects packets that no frontend claims, and no listener on the node may get. Translated ones are for an alias. ICMP
// errors of a connection (RELATED) are for IPVS. Answers come for connections that the node began while the address was on the link,
// in bind mode or kube-proxy's ipvs mode: the node asks bound addresses from themselves.
func (r rules) filterLocal() []string {
	out := []string{
		"-m conntrack --ctstate DNAT -j ACCEPT",
		matchSet(r.sets.Frontends, "dst,dst") + " -j ACCEPT",
		"-m conntrack --ctstate RELATED -j RETURN",
		"-m conntrack --ctdir REPLY -j RETURN",
	}
	if r.cfg.Bind {
		out = append(out, r.pings()+" -j RETURN")
	}
	return append(out, "-p tcp "+reset, "-j REJECT")
}

// filterOutput rejects packets that were translated to be rejected, or routed to the link since a frontend is off. Packets of other
// translated connections still seem to go where they were routed first. All of these begin connections; packets that IPVS
// forwards for others pass here, too.
func (r rules) filterOutput() []string {
	to := fmt.Sprintf("-d %v/%d", inet.RejectAddr(r.family), inet.RejectAddr(r.family).BitLen())
	return []string{
		to + " -j REJECT",
		"-m conntrack --ctstate DNAT -j RETURN",
		toLink + " -p tcp " + reset, toLink + " -j REJECT",
		r.unknownToIPVS(r.sets.Frontends, notSent+" "+reset),
	}
}
