package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/reconcile"
)

// Clean removes all objects owned by kube-ipvs from the kernel and no others: rules, the virtual servers with an ownership
// record, sets, and the link with its routes and rules. Kernel settings stay. An object that cannot be removed is
// in the error, and stops only the removal of its dependents.
func Clean(ctx context.Context, k Kernel) error {
	var errs []error
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		errs = append(errs, k.Rules.Remove(ctx, f))
	}
	servers := cleanServers(ctx, k)
	errs = append(errs, servers)
	if servers == nil { // or the ownership records are still needed
		errs = append(errs, cleanSets(ctx, k.Sets))
	}
	return errors.Join(append(errs, cleanItems(ctx, k.Steering, func(steering.Item) bool { return true }))...)
}

func cleanServers(ctx context.Context, k Kernel) error {
	all, err := allOwnedServers(ctx, k)
	if err != nil {
		return err
	}
	return deleteServers(ctx, k.IPVS, all)
}

// allOwnedServers returns the virtual servers of both families with an ownership record.
func allOwnedServers(ctx context.Context, k Kernel) (all []ipvs.Key, err error) {
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		owned, err := ownedServers(ctx, k, f)
		if err != nil {
			return nil, err
		}
		all = append(all, owned...)
	}
	return all, nil
}

// ownedServers returns the virtual servers of a family with an ownership record.
func ownedServers(ctx context.Context, k Kernel, f inet.Family) (out []ipvs.Key, err error) {
	owned, err := k.Sets.Read(ctx, SetsOf(f).Owned)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read ownership records of virtual servers: %w", err)
	}
	for m := range owned {
		out = append(out, MemberKey(m))
	}
	slices.SortFunc(out, ipvs.Key.Compare)
	return out, nil
}

func deleteServers(ctx context.Context, table ipvs.Kernel, keys []ipvs.Key) error {
	var ops []ipvs.Op
	for _, k := range keys {
		ops = append(ops, ipvs.Op{Verb: ipvs.DelServer, Key: k})
	}
	return failures(ops, table.Do(ctx, ops))
}

func cleanSets(ctx context.Context, sets ipset.Kernel) error {
	names, err := sets.Names(ctx)
	if err != nil {
		return fmt.Errorf("read sets: %w", err)
	}
	// The ownership records go first: as long as they are there a repeated hand-back makes rules, which refer to the other sets.
	first := []string{SetsOf(inet.IPv4).Owned.Name, SetsOf(inet.IPv6).Owned.Name}
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(first, b) - slices.Index(first, a) })
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, SetPrefix) {
			if err := sets.Destroy(ctx, name); err != nil {
				errs = append(errs, fmt.Errorf("ipset destroy %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// failures joins the errors of operations, each with its operation.
func failures[Op fmt.Stringer](ops []Op, errs []error) error {
	var out []error
	for i, err := range errs {
		if err != nil {
			out = append(out, fmt.Errorf("%v: %w", ops[i], err))
		}
	}
	return reconcile.Summary(out)
}
