package ipvsmode

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

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/reconcile"
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
func (d *Dataplane) setsLayer() *reconcile.TableLayer[string, struct{}, setOp] {
	t := delta.New[string, struct{}]()
	defined := map[string]ipset.Set{}
	for _, sets := range d.tables.families {
		for _, set := range sets.All() {
			t.Want(set.Name, struct{}{})
			defined[set.Name] = set
		}
	}
	return &reconcile.TableLayer[string, struct{}, setOp]{
		Title: "sets", Table: t, Compare: strings.Compare, Count: d.count.layer("sets"),
		Read: func(ctx context.Context) (iter.Seq2[string, struct{}], error) {
			names, err := d.cfg.Sets.Names(ctx)
			if err != nil {
				return nil, err
			}
			differ, err := d.cfg.Sets.Differ(ctx, slices.Collect(maps.Values(defined)))
			return func(yield func(string, struct{}) bool) {
				for _, name := range names {
					if strings.HasPrefix(name, SetPrefix) && differ[name] == nil && !yield(name, struct{}{}) {
						return
					}
				}
			}, err
		},
		Do:  d.doSets,
		Add: func(name string, _ struct{}, _ bool) setOp { return setOp{set: defined[name]} },
		Del: func(name string) setOp { return setOp{destroy: true, set: ipset.Set{Name: name}} },
		// Rules that others made, such as an earlier version, may refer to a set that is wanted no more.
		MayDel: func(string) bool {
			return !slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return !r.isInSync() })
		},
	}
}

// doSets makes and destroys sets. A set that was just made has no members, whatever was known of one with its name.
func (d *Dataplane) doSets(ctx context.Context, ops []setOp) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if op.destroy {
			errs[i] = d.cfg.Sets.Destroy(ctx, op.set.Name)
			continue
		}
		errs[i] = d.cfg.Sets.Create(ctx, op.set)
		switch {
		case errs[i] == nil:
			d.tables.members[op.set.Name].Observe(func(func(ipset.Member, ipset.Mark) bool) {})
		case errors.Is(errs[i], os.ErrExist):
			errs[i] = d.renew(ctx, op.set, errs[i])
		}
	}
	return errs
}

// base wants what is there whatever the Services are.
func (d *Dataplane) base() {
	for _, f := range d.cfg.Families {
		for _, item := range d.baseOf(f) {
			d.tables.vips.Want(item, netip.Addr{})
		}
		d.tables.members[d.tables.families[f].Local.Name].Want(ipset.Member{Other: AliasRange(f)}, ipset.Mark{})
	}
}

// baseOf is what a family needs whatever the Services are: the link, the rules of the routing policy, the way of what is rejected, and
// aliases.
func (d *Dataplane) baseOf(f inet.Family) []vip.Item {
	reject := RejectAddr(f)
	return append(vip.Policies(everything(f), d.cfg.Marks.Divert, d.cfg.Marks.Own),
		vip.Item{Kind: vip.Link},
		vip.Item{Kind: vip.Refuse, Prefix: netip.PrefixFrom(reject, reject.BitLen())},
		vip.Item{Kind: vip.Local, Prefix: AliasRange(f)})
}

// stands says that the base of a family stands, and frontends may be turned on.
func (d *Dataplane) stands(f inet.Family) bool {
	for _, item := range d.baseOf(f) {
		if _, known := d.tables.vips.Known(item); !known {
			return false
		}
	}
	return d.ruled(f)
}

// ruled says that the rules of a family stand.
func (d *Dataplane) ruled(f inet.Family) bool {
	i := slices.Index(d.cfg.Families, f)
	return i >= 0 && d.rules[i].isInSync()
}

// reroute delivers the service CIDRs to this host instead of those that were, with the node's address as source. Those of a family
// that this node does not have are nothing to it.
func (d *Dataplane) reroute(cidrs []netip.Prefix) {
	was := d.ranges
	take, giveBack := claimer{tables: d.tables}, claimer{tables: d.tables, drop: true}
	for f := range d.tables.families {
		d.tables.sources[f] = d.node.Source(f == inet.IPv4)
	}
	for _, p := range cidrs {
		if d.tables.has(p.Addr()) {
			take.vip(vip.Item{Kind: vip.Local, Prefix: p}, d.tables.sets(p.Addr()))
		}
	}
	for _, p := range was {
		if d.tables.has(p.Addr()) {
			giveBack.vip(vip.Item{Kind: vip.Local, Prefix: p}, d.tables.sets(p.Addr()))
		}
	}
	d.ranges = cidrs
}

// everything is the prefix of all addresses of a family.
func everything(f inet.Family) netip.Prefix {
	if f == inet.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func (d *Dataplane) inServiceCIDR(a netip.Addr) bool {
	return slices.ContainsFunc(d.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}
