package loop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// A setOp makes or destroys a set.
type setOp struct {
	destroy bool
	set     ipset.Set
}

// String returns the op as an operator would type it.
func (op setOp) String() string {
	if op.destroy {
		return "ipset destroy " + op.set.Name
	}
	return fmt.Sprintf("ipset create %s %s", op.set.Name, op.set.Type)
}

// setsLayer is the layer of the sets themselves. Those of ours that are wanted no more are destroyed.
func (l *Loop) setsLayer() *tableLayer[string, struct{}, setOp] {
	t := delta.New[string, struct{}]()
	defined := map[string]ipset.Set{}
	for _, sets := range l.tables.families {
		for _, set := range sets.All() {
			t.Want(set.Name, struct{}{})
			defined[set.Name] = set
		}
	}
	return &tableLayer[string, struct{}, setOp]{
		title: "sets", table: t, compare: strings.Compare, doubted: true, count: l.count.layer("sets"),
		read: func(ctx context.Context) (iter.Seq2[string, struct{}], error) {
			names, err := l.cfg.Sets.Names(ctx)
			if err != nil {
				return nil, err
			}
			differ, err := l.cfg.Sets.Differ(ctx, slices.Collect(maps.Values(defined)))
			return func(yield func(string, struct{}) bool) {
				for _, name := range names {
					if strings.HasPrefix(name, plan.SetPrefix) && differ[name] == nil && !yield(name, struct{}{}) {
						return
					}
				}
			}, err
		},
		do:  l.doSets,
		add: func(name string, _ struct{}, _ bool) setOp { return setOp{set: defined[name]} },
		del: func(name string) setOp { return setOp{destroy: true, set: ipset.Set{Name: name}} },
		// Rules that others made, such as an earlier version, may refer to a set that is wanted no more.
		mayDel: func(string) bool { return !slices.ContainsFunc(l.rules, func(r *rulesLayer) bool { return !r.stands }) },
	}
}

// doSets makes and destroys sets. A set that was just made has no members, whatever was known of one with its name.
func (l *Loop) doSets(ctx context.Context, ops []setOp) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if op.destroy {
			errs[i] = l.cfg.Sets.Destroy(ctx, op.set.Name)
			continue
		}
		errs[i] = l.cfg.Sets.Create(ctx, op.set)
		switch {
		case errs[i] == nil:
			l.tables.members[op.set.Name].Observe(func(func(ipset.Member, ipset.Mark) bool) {})
		case errors.Is(errs[i], os.ErrExist):
			errs[i] = l.renew(ctx, op.set, errs[i])
		}
	}
	return errs
}

// base wants what is there whatever the Services are.
func (l *Loop) base() {
	for _, f := range l.cfg.Families {
		for _, item := range l.baseOf(f) {
			l.tables.vips.Want(item, netip.Addr{})
		}
		l.tables.members[l.tables.families[f].Local.Name].Want(ipset.Member{Other: plan.AliasRange(f)}, ipset.Mark{})
	}
}

// baseOf is what a family needs whatever the Services are: the link, the rules of the routing policy, the way of what is rejected, and
// aliases.
func (l *Loop) baseOf(f ipset.Family) []vip.Item {
	reject := plan.RejectAddr(f)
	return append(vip.Policies(everything(f), l.cfg.Marks.Divert, l.cfg.Marks.Own),
		vip.Item{Kind: vip.Link},
		vip.Item{Kind: vip.Refuse, Prefix: netip.PrefixFrom(reject, reject.BitLen())},
		vip.Item{Kind: vip.Local, Prefix: plan.AliasRange(f)})
}

// stands says that the base of a family stands, and frontends may be turned on.
func (l *Loop) stands(f ipset.Family) bool {
	for _, item := range l.baseOf(f) {
		if _, known := l.tables.vips.Known(item); !known {
			return false
		}
	}
	return l.ruled(f)
}

// ruled says that the rules of a family stand.
func (l *Loop) ruled(f ipset.Family) bool {
	i := slices.Index(l.cfg.Families, f)
	return i >= 0 && l.rules[i].stands
}

// reroute delivers the service CIDRs to this host instead of those that were, with the node's address as source. Those of a family
// that this node does not have are nothing to it.
func (l *Loop) reroute(cidrs []netip.Prefix) {
	was := l.cfg.Plan.ServiceCIDRs
	take, giveBack := claimer{tables: l.tables}, claimer{tables: l.tables, drop: true}
	for f := range l.tables.families {
		l.tables.sources[f] = l.node.Source(f == ipset.IPv4)
	}
	for _, p := range cidrs {
		if l.tables.has(p.Addr()) {
			take.vip(vip.Item{Kind: vip.Local, Prefix: p}, l.tables.sets(p.Addr()))
		}
	}
	for _, p := range was {
		if l.tables.has(p.Addr()) {
			giveBack.vip(vip.Item{Kind: vip.Local, Prefix: p}, l.tables.sets(p.Addr()))
		}
	}
	l.cfg.Plan.ServiceCIDRs = cidrs
}

// everything is the prefix of all addresses of a family.
func everything(f ipset.Family) netip.Prefix {
	if f == ipset.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func (l *Loop) inServiceCIDR(a netip.Addr) bool {
	return slices.ContainsFunc(l.cfg.Plan.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}
