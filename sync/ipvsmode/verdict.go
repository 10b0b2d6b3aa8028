package ipvsmode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Situation is all that decides about the first packet of a connection to an address. Decide predicts its fate; the rules
// (rules.go) carry the decisions out, and the packet matrix holds one against the other.
type Situation struct {
	To       plan.Address
	Frontend *plan.Frontend          // nil: no Service has the address and port
	Off      string                  // why the frontend is not on, or ""
	Alias    bool                    // internal sources are led to the frontend's Internal endpoints
	Hairpins map[netip.AddrPort]bool // the endpoints that are masqueraded when they meet themselves

	Node     plan.Node
	Ranges   []netip.Prefix // of cluster IPs
	Bind     bool
	Marks    Marks
	Detector Detector
}

// Explain implements loop.Explainer.
func (d *Dataplane) Explain(to plan.Address, from netip.Addr) []loop.Verdict {
	s := d.situation(to)
	var out []loop.Verdict
	for _, o := range s.Origins(from) {
		out = append(out, Decide(s, o, from))
	}
	return out
}

func (d *Dataplane) situation(to plan.Address) Situation {
	s := Situation{
		To: to, Frontend: d.frontends[KeyOf(to)], Node: d.node, Ranges: d.ranges,
		Bind: d.cfg.Plan.Bind, Marks: d.cfg.Marks, Detector: d.cfg.Detector,
	}
	if s.Frontend == nil {
		return s
	}
	s.Alias = d.tables.hasAlias(s.Frontend)
	if s.Off = d.Status(to).Lacks; s.Off != "" {
		return s
	}
	s.Hairpins = d.hairpins(s.Frontend)
	if on := d.tables.members[d.tables.sets(to.Addr).Frontends.Name]; !stands(on, MemberOf(KeyOf(to))) {
		s.Off = offBecause(d.Status(to))
	}
	return s
}

// hairpins returns the endpoints of a frontend that are masqueraded when they meet themselves.
func (d *Dataplane) hairpins(fe *plan.Frontend) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	set := d.tables.members[d.tables.sets(fe.Addr).Hairpins.Name]
	all := fe.Backends
	if fe.Internal != nil {
		all = slices.Concat(all, fe.Internal.Backends)
	}
	for _, at := range all {
		out[at] = stands(set, hairpin(at, fe.Protocol))
	}
	return out
}

// offBecause returns the reason why a frontend is not on.
func offBecause(s loop.Status) string {
	switch {
	case s.Refused != nil:
		return s.Refused.Error()
	case s.Family != "":
		return s.Family
	}
	return "it is not programmed yet"
}

// Origins returns the origins that a packet from an address may have; all for the zero Addr. Pods that are found by their
// interface cannot be told by their address.
func (s Situation) Origins(from netip.Addr) []loop.Origin {
	detects := s.Detector.Detects(s.To.Addr.Is4())
	switch {
	case !from.IsValid() && detects:
		return []loop.Origin{loop.FromPod, loop.FromNode, loop.FromOutside}
	case !from.IsValid():
		return []loop.Origin{loop.FromNode, loop.FromOutside}
	case slices.Contains(s.Node.Own, from):
		return []loop.Origin{loop.FromNode}
	case slices.ContainsFunc(s.Detector.Prefixes, func(p netip.Prefix) bool { return p.Contains(from) }):
		return []loop.Origin{loop.FromPod}
	case s.Detector.Interface != "":
		return []loop.Origin{loop.FromPod, loop.FromOutside}
	}
	return []loop.Origin{loop.FromOutside}
}

// Decide predicts the fate of the first packet of a connection. From may be the zero Addr: then source ranges are taken to
// allow it, unless they allow nobody.
func Decide(s Situation, o loop.Origin, from netip.Addr) loop.Verdict {
	w := way{Situation: s, sets: SetsOf(inet.FamilyOf(s.To.Addr)), from: from, Verdict: loop.Verdict{Origin: o, Outcome: loop.NotServed}}
	for _, decide := range []func() bool{w.source, w.recognised, w.arrives, w.allowed, w.policy, w.translated, w.chosen, w.seen} {
		if !decide() {
			break
		}
	}
	return w.Verdict
}

// A way is a packet's way through the decisions. Each of its steps reports whether the packet goes on.
type way struct {
	Situation
	loop.Verdict
	sets Sets
	from netip.Addr
}

func (w *way) step(command, format string, args ...any) {
	w.Steps = append(w.Steps, loop.Step{Text: fmt.Sprintf(format, args...), Command: command})
}

func (w *way) end(o loop.Outcome) bool {
	w.Outcome = o
	return false
}

// source tells the origin, and the way in which it is found.
func (w *way) source() bool {
	name := "The source"
	if w.from.IsValid() {
		name = w.from.String()
	}
	find := w.iptables("mangle", "KIPVS-CLUSTER")
	by := strings.Join(w.Detector.matches(w.To.Addr.Is4()), ", ")
	switch {
	case w.Origin == loop.FromNode:
		w.step("", "%s is this node itself.", name)
	case w.Origin == loop.FromPod:
		w.step(find, "%s is a pod: found by %s.", name, by)
	case by == "":
		w.step(find, "%s counts as outside: pods cannot be told from others (--cluster-cidr and --detect-local-mode are not set).", name)
	default:
		w.step(find, "%s is outside: neither this node nor a pod (%s).", name, by)
	}
	return true
}

// recognised finds the frontend.
func (w *way) recognised() bool {
	test := w.test(w.sets.Frontends, w.member())
	range_, inRange := w.inRange()
	fe := w.Frontend
	switch {
	case fe != nil && w.Off == "":
		w.step(test, "%v is a frontend: the %v%s of a Service.", w.To, fe.Kind, portName(fe))
		return true
	case fe != nil:
		w.step(test, "%v is the %v%s of a Service, but not on: %s.", w.To, fe.Kind, portName(fe), w.Off)
	default:
		w.step(test, "%v is no frontend: no Service that is served here has this address, port and protocol.", w.To)
	}
	if !inRange {
		w.step(w.route(), "kube-ipvs leaves the packet to the node's other rules and routes.")
		return w.end(loop.NotServed)
	}
	w.step(w.test(w.sets.Closed, ipset.Member{Addr: w.To.Addr}), "It lies in the service range %v, where all that is no frontend is rejected.", range_)
	return w.end(loop.Refused)
}

func portName(fe *plan.Frontend) string {
	if fe.PortName == "" {
		return ""
	}
	return fmt.Sprintf(" (port %q)", fe.PortName)
}

// arrives tells how the packet comes to this node's IPVS.
func (w *way) arrives() bool {
	fe := w.Frontend
	switch {
	case fe.OnNode:
		w.step(w.route(), "The address is this node's own.")
	case w.Bind:
		w.step("ip address show dev "+steering.LinkName, "The address is on %s.", steering.LinkName)
	case IsDiverted(fe, w.Bind):
		mark := w.Marks.Divert
		if w.Origin == loop.FromNode {
			mark = w.Marks.Own
		}
		show := fmt.Sprintf("%s && %s show table %d %v", w.test(w.sets.External, w.member()), w.ip("route"), steering.DivertTable, w.To.Addr)
		w.step(show, "The address need not be this node's: packets to this port are diverted, by mark %#x and a routing table of such addresses.", mark)
	case fe.Allocated:
		range_, _ := w.inRange()
		w.step(w.route(), "The address is local by the route for the service range %v.", range_)
	default:
		w.step(w.route(), "The address is local by a route of its own.")
	}
	return true
}

// allowed holds the source against the source ranges.
func (w *way) allowed() bool {
	fe := w.Frontend
	if !fe.Restricted {
		return true
	}
	if len(fe.SourceRanges) == 0 {
		w.step(w.test(w.sets.Ranged, w.member()), "internalTrafficPolicy is Local, and no endpoint is on this node: dropped.")
		return w.end(loop.Dropped)
	}
	from := w.from
	if !from.IsValid() && w.Origin == loop.FromNode {
		from = w.Node.Source(w.To.Addr.Is4())
	}
	ranges := strings.Trim(fmt.Sprint(fe.SourceRanges), "[]")
	if !from.IsValid() {
		w.step(w.test(w.sets.Ranged, w.member()), "Only sources in %s are served, others dropped; this one is taken to be among them.", ranges)
		return true
	}
	member := w.member()
	member.Other = netip.PrefixFrom(from, from.BitLen())
	command := w.test(w.sets.Allowed, member)
	if !slices.ContainsFunc(fe.SourceRanges, func(p netip.Prefix) bool { return p.Contains(from) }) {
		w.step(command, "%v is not in loadBalancerSourceRanges (%s): dropped.", from, ranges)
		return w.end(loop.Dropped)
	}
	w.step(command, "%v is in loadBalancerSourceRanges (%s).", from, ranges)
	return true
}

// policy rejects, or drops, for lack of endpoints.
func (w *way) policy() bool {
	switch fe := w.Frontend; {
	case fe.Rejected:
		w.step(w.test(w.sets.Rejected, w.member()), "No endpoint can serve: refused.")
		return w.end(loop.Refused)
	case TreatmentOf(fe) == DropExternal && w.Origin == loop.FromOutside:
		w.step(w.treatment(), "externalTrafficPolicy is Local, and no endpoint is on this node: dropped, so that load balancers take another node.")
		return w.end(loop.Dropped)
	case TreatmentOf(fe) == DropExternal:
		w.step(w.treatment(), "externalTrafficPolicy is Local, which does not concern pods and nodes of the cluster.")
	}
	return true
}

// translated leads internal sources to the alias.
func (w *way) translated() bool {
	fe := w.Frontend
	w.Endpoints = fe.Backends
	switch {
	case fe.Internal == nil:
	case w.Origin == loop.FromOutside:
		w.step(w.treatment(), "externalTrafficPolicy is Local: endpoints on this node only.")
	case w.Alias:
		w.Endpoints = fe.Internal.Backends
		w.step(w.test(w.sets.Internal, w.member()), "The source is internal, which externalTrafficPolicy Local does not concern: it is led to all endpoints, at the alias %v.", Alias(w.To.Addr))
	default:
		w.step(w.test(w.sets.Internal, w.member()), "The source is internal, but another address has the alias for such sources: endpoints on this node only.")
	}
	return true
}

// chosen lets IPVS choose an endpoint.
func (w *way) chosen() bool {
	w.Outcome = loop.Delivered
	fe, n := w.Frontend, len(w.Endpoints)
	key := KeyOf(w.To)
	if fe.Internal != nil && w.Alias && w.Origin != loop.FromOutside {
		key = AliasKey(w.To)
	}
	how := fmt.Sprintf("by scheduler %s", fe.Scheduler)
	if fe.Scheduler == "rr" || fe.Scheduler == "wrr" {
		w.Share = fmt.Sprintf("1/%d", n)
		how += ", each " + w.Share
	}
	if fe.Affinity != 0 {
		how += fmt.Sprintf("; a client that came less than %v ago keeps its endpoint", fe.Affinity)
	}
	w.step("ipvsadm -Ln "+key.String(), "IPVS chooses one of %s: %s.", count(n, "endpoint"), how)
	return true
}

// seen tells the source that the endpoint sees.
func (w *way) seen() bool {
	show := w.iptables("nat", "KIPVS-POSTROUTING")
	detects := w.Detector.Detects(w.To.Addr.Is4())
	treatment := TreatmentOf(w.Frontend)
	switch {
	case w.Origin == loop.FromNode && (detects || w.Bind || treatment != MasqueradeExternal):
		w.Masqueraded = true
		w.step(show, "The node's own connections are masqueraded.")
	case treatment == Masquerade:
		w.Masqueraded = true
		w.step(show, "Masqueraded: answers must come back through this node.")
	case treatment == MasqueradeExternal && w.Origin == loop.FromOutside && detects:
		w.Masqueraded = true
		w.step(show, "Masqueraded: the source is outside, and answers must come back through this node.")
	case treatment == MasqueradeExternal && !detects:
		w.step(w.treatment(), "The endpoint sees the source's own address: pods cannot be told from others.")
	default:
		w.step(w.treatment(), "The endpoint sees the source's own address.")
	}
	i := slices.IndexFunc(w.Endpoints, func(at netip.AddrPort) bool { return at.Addr() == w.from })
	switch {
	case i < 0 || w.Masqueraded:
	case !w.Hairpins[w.Endpoints[i]]:
		w.step(w.test(w.sets.Hairpins, hairpin(w.Endpoints[i], w.To.Protocol)), "Where the endpoint meets itself, it is on another node, and answers itself past IPVS.")
	default:
		w.Hairpin = true
		w.step(w.test(w.sets.Hairpins, hairpin(w.Endpoints[i], w.To.Protocol)), "Where the endpoint meets itself, it is masqueraded: it would answer itself past IPVS.")
	}
	return false
}

func (w *way) inRange() (netip.Prefix, bool) {
	i := slices.IndexFunc(w.Ranges, func(p netip.Prefix) bool { return p.Contains(w.To.Addr) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return w.Ranges[i], true
}

// member returns the frontend's member of sets.
func (w *way) member() ipset.Member { return MemberOf(KeyOf(w.To)) }

func (w *way) test(s ipset.Set, m ipset.Member) string {
	return ipset.Op{Verb: ipset.Test, Set: s, Member: m}.String()
}

// treatment shows a frontend's treatment, which "ipset test" does not.
func (w *way) treatment() string {
	return fmt.Sprintf("ipset list %s | grep -F '%v '", w.sets.Frontends.Name, w.member())
}

func (w *way) iptables(table, chain string) string {
	if w.To.Addr.Is4() {
		return fmt.Sprintf("iptables -t %s -S %s", table, chain)
	}
	return fmt.Sprintf("ip6tables -t %s -S %s", table, chain)
}

func (w *way) route() string { return fmt.Sprintf("%s get %v", w.ip("route"), w.To.Addr) }

// ip returns a command of iproute2 for the family.
func (w *way) ip(object string) string {
	if w.To.Addr.Is4() {
		return "ip " + object
	}
	return "ip -6 " + object
}

// count returns a number of things: "1 endpoint", "2 endpoints".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
