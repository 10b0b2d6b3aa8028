package ipvsmode

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/reconcile"
)

// gates delay changes to members of a set, and replace its operation. All may be nil.
type gates struct {
	ready          func() bool
	mayAdd, mayDel func(ipset.Member) bool
	do             func(context.Context, []ipset.Op) []error
}

// membersLayer is the layer of one set's members. A missing set, or one of another definition, has none.
func (d *Dataplane) membersLayer(set ipset.Set, g gates) reconcile.Layer {
	t := &reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op]{
		Title: "set " + set.Name, Table: d.tables.members[set.Name], Compare: ipset.Member.Compare,
		Count: d.count.layer("set " + set.Name), Ready: g.ready, MayAdd: g.mayAdd, MayDel: g.mayDel,
		Aside: func(m ipset.Member) bool { return d.foreign.has(MemberKey(m)) },
		Read: func(ctx context.Context) (iter.Seq2[ipset.Member, ipset.Mark], error) {
			members, err := d.cfg.Sets.Read(ctx, set)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
				members, err = nil, nil
			}
			return maps.All(members), err
		},
		Do: d.cfg.Sets.Do,
		Add: func(m ipset.Member, mark ipset.Mark, _ bool) ipset.Op {
			return ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark}
		},
		Del: func(m ipset.Member) ipset.Op { return ipset.Op{Verb: ipset.Del, Set: set, Member: m} },
	}
	if g.do != nil {
		t.Do = g.do
	}
	t.With = d.setLayer
	d.members[set.Name] = t
	return t
}

// mayTurnOn reports whether a frontend's own virtual server and guard are in place. A guard that it needs no more blocks
// no source for long: it is removed in the same sync. Kube-proxy's rules translate no connection to a frontend that is on, so where
// they exist its packets are diverted before.
func (d *Dataplane) mayTurnOn(m ipset.Member) bool {
	external := d.members[d.tables.sets(m.Addr).External.Name]
	_, diverted := external.Table.Wanted(m)
	return d.serverLayer.Present(MemberKey(m)) && d.isGuarded(m) && d.mayKeep(MemberKey(m)) && (!diverted || !d.takeover.isUnderWay() || external.Present(m))
}

// isGuarded reports whether a frontend's guard is in place, if it needs one, and the rules that look at it.
func (d *Dataplane) isGuarded(m ipset.Member) bool {
	f := inet.FamilyOf(m.Addr)
	ranged := d.members[d.tables.families[f].Ranged.Name]
	_, needed := ranged.Table.Wanted(m)
	return !needed || ranged.Present(m) && d.rulesInSync(f)
}

// isNotForeign reports whether nobody else has a virtual server at a frontend: a guard would drop its clients, and nothing is diverted to it.
func (d *Dataplane) isNotForeign(m ipset.Member) bool {
	return !d.foreign.has(MemberKey(m))
}

// aliasServes reports whether the alias of a frontend can be used.
func (d *Dataplane) aliasServes(m ipset.Member) bool {
	return d.serverLayer.Present(AliasKey(AddressOf(MemberKey(m))))
}

// allOn reports whether all frontends in service ranges are on.
func (d *Dataplane) allOn(s Sets) bool {
	for o := range d.members[s.Frontends.Name].Table.Missing() {
		if !o.IsKnown() && d.inServiceCIDR(o.Key().Addr) {
			return false
		}
	}
	return true
}

// mayDivert reports whether a frontend is on, and its packets may be diverted; or kube-proxy still serves it, and somebody else's virtual
// server does not.
func (d *Dataplane) mayDivert(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		return d.members[s.Frontends.Name].Present(m) || d.takeover.isUnderWay() && d.stands(s.Frontends.Family) && d.isNotForeign(m)
	}
}

// isServed reports whether a set has the frontends that it is to have, but for those at virtual servers of somebody else, and no others.
func (d *Dataplane) isServed(set ipset.Set) bool {
	table := d.members[set.Name].Table
	for range table.Extra() {
		return false
	}
	for o := range table.Missing() {
		if d.isNotForeign(o.Key()) {
			return false
		}
	}
	return true
}

// isNotDiverted reports whether a frontend's packets are not diverted.
func (d *Dataplane) isNotDiverted(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool { return d.members[s.External.Name].Absent(m) }
}

// offOrOpen reports whether a frontend's guard may be removed: the frontend is off, and IPVS has no server for it, which would serve
// it all the same; or it is open to all by now.
func (d *Dataplane) offOrOpen(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		on := d.members[s.Frontends.Name]
		_, wanted := on.Table.Wanted(m)
		return on.Absent(m) && d.serverLayer.Absent(MemberKey(m)) || wanted && !on.Unknown()
	}
}

// isUnbound reports whether a network is not delivered to this host any more.
func (d *Dataplane) isUnbound(m ipset.Member) bool {
	return d.routes.Absent(steering.Item{Kind: steering.Local, Prefix: m.Other}) && d.addresses.Absent(steering.Item{Kind: steering.Address, Prefix: m.Other})
}

// doFrontends turns frontends on and off. Flows to one before it was on, or while it was rejected, keep their tracked way:
// from the same port, a client would neither be masqueraded nor get its answers.
func (d *Dataplane) doFrontends(ctx context.Context, ops []ipset.Op) []error {
	for _, op := range ops {
		if op.Verb == ipset.Add {
			d.flows.add(MemberKey(op.Member))
		}
	}
	return d.cfg.Sets.Do(ctx, ops)
}

// samplesDiffer tests one member of each set that is known to have any.
func (d *Dataplane) samplesDiffer(ctx context.Context) (bool, error) {
	var ops []ipset.Op
	for _, sets := range d.tables.families {
		for _, set := range sets.All() {
			for m := range d.members[set.Name].Table.All() {
				ops = append(ops, ipset.Op{Verb: ipset.Test, Set: set, Member: m})
				break
			}
		}
	}
	errs := d.cfg.Sets.Do(ctx, ops)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if !errors.Is(err, ipset.ErrNoMember) {
			d.setLayer.Invalidate()
		}
		d.members[ops[i].Set.Name].Invalidate()
	}
	return errs != nil, nil
}

// countsDiffer compares the number of members of each set with the known number.
func (d *Dataplane) countsDiffer(ctx context.Context) (bool, error) {
	counts, err := d.cfg.Sets.Counts(ctx)
	if err != nil {
		return true, err
	}
	differ := false
	for name, members := range d.members {
		count, there := counts[name]
		if !there {
			d.setLayer.Invalidate()
		}
		if !there || count != members.Table.KnownLen() {
			members.Invalidate()
			differ = true
		}
	}
	return differ, nil
}
