package ipvsmode

import (
	"context"
	"errors"
	"maps"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
)

// renew makes a set anew that is there with another definition, as a version before this one made it; why says what differs.
// Rules that refer to it go first, whatever they are: they were made for that definition, and those that are wanted are made
// in the same turn. It waits for the programs that remove them, which happens once, if at all, after an upgrade. A ledger
// keeps its lines as far as they could be read, since they are all that is known of what is ours.
func (d *Dataplane) renew(ctx context.Context, set ipset.Set, why error) error {
	klog.FromContext(ctx).Info("A set with another definition is made anew", "set", set.Name, "why", why.Error())
	members := d.tables.members[set.Name]
	kept := map[ipset.Member]ipset.Mark{}
	if set == d.tables.families[set.Family].Owned {
		maps.Insert(kept, members.All())
	}
	err := d.cfg.Sets.Destroy(ctx, set.Name)
	if errors.Is(err, ipset.ErrInUse) {
		if err := d.rulesOf(set.Family).remove(ctx); err != nil {
			return err
		}
		err = d.cfg.Sets.Destroy(ctx, set.Name)
	}
	if err == nil {
		err = d.cfg.Sets.Create(ctx, set)
	}
	if err != nil {
		return err
	}
	var ops []ipset.Op
	for m, mark := range kept {
		ops = append(ops, ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark})
	}
	members.Observe(maps.All(kept))
	return errors.Join(d.cfg.Sets.Do(ctx, ops)...)
}
