package ipvsmode

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
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
	return "ipset " + op.set.String()
}

// setsLayer is the layer of the sets themselves. Owned sets that are undesired are destroyed.
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
		// Foreign rules, such as an earlier version's, may refer to an undesired set.
		MayDel: func(string) bool {
			return !slices.ContainsFunc(d.rules, func(r *rulesLayer) bool { return !r.isInSync() })
		},
	}
}

// doSets makes and destroys sets. A new set has no members, whatever was known of its name.
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

// renew replaces a set of another definition, such as an earlier version's; why names the difference. All rules that refer
// to it are removed first: they were made for that definition, and the desired ones are written in the same sync. It waits
// for the programs that remove them, which happens once, if at all, after an upgrade. Readable ownership records are kept,
// since nothing else is known of owned objects.
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
