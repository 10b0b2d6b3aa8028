package loop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/plan"
)

// Clean removes all that is ours from the kernel and nothing else: rules, the virtual servers that the ledger names,
// sets, and the link with its routes and rules. Kernel settings stay. What cannot be removed is in the error, and stops
// only what depends on it.
func Clean(ctx context.Context, cfg Config) error {
	var errs []error
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		errs = append(errs, cfg.Rules.Remove(ctx, f))
	}
	servers := cleanServers(ctx, cfg)
	errs = append(errs, servers)
	if servers == nil { // or the ledger is still needed
		errs = append(errs, cleanSets(ctx, cfg.Sets))
	}
	return errors.Join(append(errs, cleanVIPs(ctx, cfg.VIP))...)
}

func cleanServers(ctx context.Context, cfg Config) error {
	var ops []ipvs.Op
	for _, f := range []ipset.Family{ipset.IPv4, ipset.IPv6} {
		ledger, err := cfg.Sets.Read(ctx, plan.SetsOf(f).Owned)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read which virtual servers are ours: %w", err)
		}
		for m := range ledger {
			ops = append(ops, ipvs.Op{Verb: ipvs.DelServer, Key: keyOf(m)})
		}
	}
	slices.SortFunc(ops, func(a, b ipvs.Op) int { return a.Key.Compare(b.Key) })
	return failures(ops, cfg.IPVS.Do(ctx, ops))
}

func cleanSets(ctx context.Context, sets ipset.Kernel) error {
	names, err := sets.Names(ctx)
	if err != nil {
		return fmt.Errorf("read sets: %w", err)
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, plan.SetPrefix) {
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
	// The link goes also where Read leaves it out for not being as it should.
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
	return summary(out)
}
