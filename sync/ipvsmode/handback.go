package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
)

// A HandBack gives a node back to a kube-proxy that serves it already. It may be repeated, also after a kill at any point.
type HandBack struct {
	Kernel
	Rules RulesConfig // of the kube-ipvs that ran here, but for marks, which are read from its routing rules
	Keep  bool        // kube-proxy is in ipvs mode, and has taken over virtual servers, link and addresses

	// Limit is how long the connections of IPVS may take, if kube-proxy does not keep them.
	Limit time.Duration
	// Waits is called with the number of connections that are left, whenever it changed. It may be nil.
	Waits func(connections int)
}

// Prepare lets nothing depend on what kube-proxy's ipvs mode deletes in its first sync: virtual servers that it does not know, which are
// those of aliases. Internal sources get the endpoints on this node from then on, as kube-proxy has it. It is of use before kube-proxy
// begins.
func (h HandBack) Prepare(ctx context.Context) error {
	if !h.Keep {
		return nil
	}
	var errs []error
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		set := SetsOf(f).Internal
		members, err := h.Sets.Read(ctx, set)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var ops []ipset.Op
		for _, m := range slices.SortedFunc(maps.Keys(members), ipset.Member.Compare) {
			ops = append(ops, ipset.Op{Verb: ipset.Del, Set: set, Member: m})
		}
		errs = append(errs, err, failures(ops, h.Sets.Do(ctx, ops)))
	}
	return errors.Join(errs...)
}

// Serves reports whether kube-proxy has written its rules in all families in which kube-ipvs has virtual servers, and in ipvs mode its
// sets name some of these. On a busy node it may write those of IPv6 long after those of IPv4. Without rules that need the connection
// tracking of a family, the kernel stops it, and translated connections break.
func (h HandBack) Serves(ctx context.Context) (bool, error) {
	var its predecessor
	if h.Keep {
		if err := its.read(ctx, h.Sets); err != nil {
			return false, err
		}
	}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		owned, err := ownedServers(ctx, h.Kernel, f)
		if err != nil {
			return false, err
		}
		rules, err := h.Kernel.Rules.KubeProxyServes(ctx, f)
		if err != nil {
			return false, err
		}
		if len(owned) > 0 && (!rules || h.Keep && !slices.ContainsFunc(owned, its.has)) {
			return false, nil
		}
	}
	return true, nil
}

// Do removes all objects of kube-ipvs but those that kube-proxy uses. Rules for new connections go first, as kube-proxy translates
// those. In ipvs mode it also has the established ones; else IPVS serves these until the last has ended, or the limit, and schedules no
// others, whatever kube-proxy leaves to it. UDP clients that go on get an endpoint from kube-proxy then: their flows are forgotten.
func (h HandBack) Do(ctx context.Context) error {
	if h.Keep {
		return h.leaveServers(ctx)
	}
	var err error
	if h.Rules.Marks, err = h.routedMarks(ctx); err != nil {
		return err
	}
	h.Rules.HandedBack = true
	if err := h.leaveNew(ctx); err != nil {
		return err
	}
	if err := h.quiesce(ctx); err != nil {
		return err
	}
	h.Rules.Quiesced = true
	if err := h.leaveNew(ctx); err != nil {
		return err
	}
	left, err := h.wait(ctx)
	if err != nil {
		return err
	}
	// First, or who repeats this after a kill would know no connections.
	return errors.Join(h.forget(ctx, left), Clean(ctx, h.Kernel))
}

// leaveNew writes the rules that leave new connections to kube-proxy.
func (h HandBack) leaveNew(ctx context.Context) error {
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		left, err := ownedServers(ctx, h.Kernel, f)
		if err != nil {
			return err
		}
		if len(left) == 0 { // or the sets that the rules refer to may be gone
			continue
		}
		if err := h.Kernel.Rules.Ensure(ctx, Rules(h.Rules, f)); err != nil {
			return err
		}
	}
	return nil
}

// routedMarks returns the marks of the node's routing rules, by which packets of established connections find the way to IPVS: who
// hands a node back need not know with which masquerade bit kube-ipvs ran. Where that is another, it is of no use any more, and any does
// that is none of the others.
func (h HandBack) routedMarks(ctx context.Context) (Marks, error) {
	given := h.Rules.Marks
	items, err := h.Steering.Read(ctx)
	if err != nil {
		return given, fmt.Errorf("read addresses and routes: %w", err)
	}
	routed := given
	for i := range items {
		switch {
		case i.Kind != steering.Policy || i.Rule.Table != steering.DivertTable:
		case i.Rule.Own:
			routed.Own = i.Rule.Mark
		default:
			routed.Divert = i.Rule.Mark
		}
	}
	if routed != given {
		routed.Masquerade = 1 << (bits.TrailingZeros32(routed.Divert)&^15 + 14)
	}
	return routed, nil
}

// quiesce gives all real servers of owned virtual servers weight 0: their connections go on, and IPVS schedules no new one.
func (h HandBack) quiesce(ctx context.Context) error {
	table, err := h.IPVS.Read(ctx)
	if err != nil {
		return err
	}
	owned, err := allOwnedServers(ctx, h.Kernel)
	if err != nil {
		return err
	}
	var ops []ipvs.Op
	for _, k := range owned {
		for at, real := range table[k].Reals {
			if real.Weight > 0 {
				ops = append(ops, ipvs.Op{Verb: ipvs.SetReal, Key: k, Addr: at, Real: ipvs.Real{Weight: 0}})
			}
		}
	}
	return failures(ops, h.IPVS.Do(ctx, ops))
}

// forget deletes the tracked flows of UDP frontends.
func (h HandBack) forget(ctx context.Context, connected []ipvs.Key) error {
	frontends := map[inet.Family][]conntrack.Frontend{}
	for _, k := range connected {
		if k.Proto != inet.UDP || inAliases(k) { // conntrack alone has the flows of an alias
			continue
		}
		f := inet.FamilyOf(k.Addr)
		frontends[f] = append(frontends[f], conntrack.Frontend{Proto: k.Proto, At: k.AddrPort()})
	}
	var errs []error
	for _, of := range frontends {
		_, err := h.Flows.Delete(ctx, of)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leaveServers removes all but the virtual servers at frontends, the link and the addresses.
func (h HandBack) leaveServers(ctx context.Context) error {
	var errs []error
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		errs = append(errs, h.Kernel.Rules.Remove(ctx, f), h.removeAliases(ctx, f))
	}
	errs = append(errs, cleanItems(ctx, h.Steering, func(i steering.Item) bool { return i.Kind != steering.Link && i.Kind != steering.Address }))
	if errors.Join(errs...) == nil { // or the ownership records are still needed
		errs = append(errs, cleanSets(ctx, h.Sets))
	}
	return errors.Join(errs...)
}

// removeAliases removes virtual servers that only rules of kube-ipvs lead to. Their connections do not pass IPVS.
func (h HandBack) removeAliases(ctx context.Context, f inet.Family) error {
	owned, err := ownedServers(ctx, h.Kernel, f)
	if err != nil {
		return err
	}
	return deleteServers(ctx, h.IPVS, slices.DeleteFunc(owned, func(k ipvs.Key) bool { return !inAliases(k) }))
}

// wait waits until IPVS has no more connections to the endpoints of owned virtual servers, at most for the limit. It returns the virtual
// servers that still have some then.
func (h HandBack) wait(ctx context.Context) ([]ipvs.Key, error) {
	const pause = time.Second
	told := -1
	for end := time.Now().Add(h.Limit); ; {
		n, connected, err := h.connections(ctx)
		if err != nil {
			return nil, err
		}
		if n != told && h.Waits != nil {
			h.Waits(n)
		}
		if told = n; n == 0 || !time.Now().Before(end) {
			return connected, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d connections are left to IPVS: %w", n, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// connections returns the number of connections of owned virtual servers, and which have some: of TCP those that are established, which
// the others have been.
func (h HandBack) connections(ctx context.Context) (n int, connected []ipvs.Key, err error) {
	table, err := h.IPVS.Read(ctx)
	if err != nil {
		return 0, nil, err
	}
	owned, err := allOwnedServers(ctx, h.Kernel)
	if err != nil {
		return 0, nil, err
	}
	for _, k := range owned {
		before := n
		for real := range maps.Values(table[k].Reals) {
			n += int(real.Active)
			if k.Proto != inet.TCP {
				n += int(real.Inactive)
			}
		}
		if n > before {
			connected = append(connected, k)
		}
	}
	return n, connected, nil
}

// cleanItems removes items that are on the node.
func cleanItems(ctx context.Context, kernel steering.Kernel, which func(steering.Item) bool) error {
	items, err := kernel.Read(ctx)
	if err != nil {
		return fmt.Errorf("read addresses and routes: %w", err)
	}
	// The link is removed even if Read leaves it out because it differs from the desired one.
	items[steering.Item{Kind: steering.Link}] = netip.Addr{}
	var ops []steering.Op
	for i := range items {
		if which(i) {
			ops = append(ops, steering.Op{Verb: steering.Del, Item: i})
		}
	}
	slices.SortFunc(ops, func(a, b steering.Op) int { return b.Item.Compare(a.Item) })
	return failures(ops, kernel.Do(ctx, ops))
}

// withoutNew empties the chains that decide about first packets, but for source ranges, which hold until IPVS schedules nothing any more. A
// rule keeps the chains in the ruleset, as others lead to them.
func (r rules) withoutNew(chains []iptables.Chain) []iptables.Chain {
	for i, c := range chains {
		switch c.Table + " " + c.Name {
		case "mangle KIPVS-PREROUTING", "mangle KIPVS-OWN":
			chains[i].Rules = []string{r.ranged()}
			if r.cfg.Quiesced { // nobody updates the sets any more
				chains[i].Rules = []string{"-j RETURN"}
			}
		case "nat KIPVS-PREROUTING", "nat KIPVS-OUTPUT":
			chains[i].Rules = []string{"-j RETURN"}
		}
	}
	return chains
}
