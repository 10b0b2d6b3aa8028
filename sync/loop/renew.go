package loop

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
)

// renew makes a set anew that is there with another definition, as a version before this one made it; why says what differs.
// Rules that refer to it go first, whatever they are: they were made for that definition, and those that are wanted are made
// in the same turn. It waits for the programs that remove them, which happens once, if at all, after an upgrade. A ledger
// keeps its lines as far as they could be read, since they are all that is known of what is ours.
func (l *Loop) renew(ctx context.Context, set ipset.Set, why error) error {
	klog.FromContext(ctx).Info("A set with another definition is made anew", "set", set.Name, "why", why.Error())
	members := l.tables.members[set.Name]
	kept := map[ipset.Member]ipset.Mark{}
	if set == l.tables.families[set.Family].Owned {
		maps.Insert(kept, members.All())
	}
	err := l.cfg.Sets.Destroy(ctx, set.Name)
	if errors.Is(err, ipset.ErrInUse) {
		if err := l.rulesOf(set.Family).remove(ctx); err != nil {
			return err
		}
		err = l.cfg.Sets.Destroy(ctx, set.Name)
	}
	if err == nil {
		err = l.cfg.Sets.Create(ctx, set)
	}
	if err != nil {
		return err
	}
	var ops []ipset.Op
	for m, mark := range kept {
		ops = append(ops, ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark})
	}
	members.Observe(maps.All(kept))
	return errors.Join(l.cfg.Sets.Do(ctx, ops)...)
}

// remove removes the rules, whatever they are, and waits for that.
func (r *rulesLayer) remove(ctx context.Context) error {
	if r.job != nil {
		return fmt.Errorf("remove %s: they are being looked at or made", r.name())
	}
	r.stands, r.trace, r.failed, r.unreadable = false, "", nil, nil
	if err := r.kernel.Remove(ctx, r.rules.Family); err != nil {
		return fmt.Errorf("remove %s: %w", r.name(), err)
	}
	return nil
}
