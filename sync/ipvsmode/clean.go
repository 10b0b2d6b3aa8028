package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
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
	return errors.Join(append(errs, cleanVIPs(ctx, k.VIP))...)
}

func cleanServers(ctx context.Context, k Kernel) error {
	var ops []ipvs.Op
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		owned, err := k.Sets.Read(ctx, SetsOf(f).Owned)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read ownership records of virtual servers: %w", err)
		}
		for m := range owned {
			ops = append(ops, ipvs.Op{Verb: ipvs.DelServer, Key: MemberKey(m)})
		}
	}
	slices.SortFunc(ops, func(a, b ipvs.Op) int { return a.Key.Compare(b.Key) })
	return failures(ops, k.IPVS.Do(ctx, ops))
}

func cleanSets(ctx context.Context, sets ipset.Kernel) error {
	names, err := sets.Names(ctx)
	if err != nil {
		return fmt.Errorf("read sets: %w", err)
	}
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

func cleanVIPs(ctx context.Context, vips vip.Kernel) error {
	items, err := vips.Read(ctx)
	if err != nil {
		return fmt.Errorf("read addresses and routes: %w", err)
	}
	// The link is removed even if Read leaves it out because it differs from the desired one.
	items[vip.Item{Kind: vip.Link}] = netip.Addr{}
	var ops []vip.Op
	for i := range items {
		ops = append(ops, vip.Op{Verb: vip.Del, Item: i})
	}
	slices.SortFunc(ops, func(a, b vip.Op) int { return b.Item.Compare(a.Item) })
	return failures(ops, vips.Do(ctx, ops))
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
