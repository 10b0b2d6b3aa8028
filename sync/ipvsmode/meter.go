package ipvsmode

import (
	"context"
	"maps"
	"net/netip"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Meter reads IPVS's counts. It implements loop.Meter. Of connections through an alias only the first packet counts: conntrack
// translates the others.
type Meter struct {
	Table interface {
		CountingTable
		Walk(context.Context, func(ipvs.Key, ipvs.Entry)) error
	}
	Settings sysctl.Kernel // tell whether IPVS counts; nil: it does
}

// Uncounted implements loop.Meter.
func (m Meter) Uncounted(ctx context.Context) string { return uncounted(ctx, m.Settings) }

// keys returns the virtual servers of a frontend.
func keys(fe *plan.Frontend) []ipvs.Key {
	if fe.Internal == nil {
		return []ipvs.Key{KeyOf(fe.Address)}
	}
	return []ipvs.Key{KeyOf(fe.Address), AliasKey(fe.Address)}
}

// Loads implements loop.Meter.
func (m Meter) Loads(ctx context.Context, fe *plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
	out := map[netip.AddrPort]loop.Load{}
	for _, key := range keys(fe) {
		reals, err := m.Table.CountReals(ctx, key)
		if err != nil {
			return nil, err
		}
		for at, r := range reals {
			out[at] = out[at].Add(loadOf(r.RealState, r.Counters))
		}
	}
	return out, nil
}

// unlisted returns the real servers of a virtual server that the kernel's listing lacks, as it does where other network namespaces have
// some, without their counters. That takes a dump: the kernel dumps the real servers of one virtual server at a time, and ipvs.Kernel's
// Read of the whole table asks twice for each that the listing lacks.
func (m Meter) unlisted(ctx context.Context, key ipvs.Key) (map[netip.AddrPort]ipvs.RealState, error) {
	reals, err := m.Table.CountReals(ctx, key)
	if err != nil {
		return nil, err
	}
	out := map[netip.AddrPort]ipvs.RealState{}
	for at, r := range reals {
		out[at] = r.RealState
	}
	return out, nil
}

// AllLoads implements loop.Meter.
func (m Meter) AllLoads(ctx context.Context) (func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error), error) {
	all := map[ipvs.Key]map[netip.AddrPort]ipvs.RealState{}
	err := m.Table.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		all[key] = maps.Clone(e.Reals) // the walk keeps its own
	})
	if err != nil {
		return nil, err
	}
	return func(fe *plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
		out := map[netip.AddrPort]loop.Load{}
		for _, key := range keys(fe) {
			reals, listed := all[key]
			if !listed {
				var err error
				if reals, err = m.unlisted(ctx, key); err != nil {
					return nil, err
				}
			}
			for at, r := range reals {
				out[at] = out[at].Add(loadOf(r, ipvs.Counters{}))
			}
		}
		return out, nil
	}, nil
}

func loadOf(r ipvs.RealState, c ipvs.Counters) loop.Load {
	return loop.Load{Weight: r.Weight, Active: r.Active, Inactive: r.Inactive, Counters: loop.Counters(c)}
}

// Totals implements loop.Meter. Aliases are left out: their address has lost a part of the frontend's. Where IPVS does not count, a
// frontend has a load if it has connections.
func (m Meter) Totals(ctx context.Context) (map[plan.Address]loop.Load, error) {
	counters, err := m.Table.Totals(ctx)
	if err != nil {
		return nil, err
	}
	out, counts := map[plan.Address]loop.Load{}, m.Uncounted(ctx) == ""
	for key, c := range counters {
		if key.Mark == 0 && !inAliases(key) && (c != (ipvs.Counters{}) || !counts) {
			out[AddressOf(key)] = loop.Load{Counters: loop.Counters(c)}
		}
	}
	add := func(key ipvs.Key, reals map[netip.AddrPort]ipvs.RealState) {
		total := out[AddressOf(key)]
		for _, r := range reals {
			total = total.Add(loadOf(r, ipvs.Counters{}))
		}
		out[AddressOf(key)] = total
	}
	missing := map[plan.Address]struct{}{}
	for a := range out {
		missing[a] = struct{}{}
	}
	err = m.Table.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		if _, isCounted := missing[AddressOf(key)]; isCounted {
			delete(missing, AddressOf(key))
			add(key, e.Reals)
		}
	})
	if err != nil { // or all would be looked for one by one
		return nil, err
	}
	for a := range missing {
		reals, err := m.unlisted(ctx, KeyOf(a))
		if err != nil {
			return nil, err
		}
		add(KeyOf(a), reals)
	}
	if !counts {
		maps.DeleteFunc(out, func(_ plan.Address, l loop.Load) bool {
			return l.Active+l.Inactive == 0 && l.Counters == (loop.Counters{})
		})
	}
	return out, nil
}
