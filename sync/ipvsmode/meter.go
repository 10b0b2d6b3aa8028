package ipvsmode

import (
	"context"
	"maps"
	"net/netip"

	"kube-ipvs/ipvs"
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
}

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

// AllLoads implements loop.Meter.
func (m Meter) AllLoads(ctx context.Context) (func(*plan.Frontend) map[netip.AddrPort]loop.Load, error) {
	all := map[ipvs.Key]map[netip.AddrPort]ipvs.RealState{}
	err := m.Table.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		all[key] = maps.Clone(e.Reals) // the walk keeps its own
	})
	return func(fe *plan.Frontend) map[netip.AddrPort]loop.Load {
		out := map[netip.AddrPort]loop.Load{}
		for _, key := range keys(fe) {
			for at, r := range all[key] {
				out[at] = out[at].Add(loadOf(r, ipvs.Counters{}))
			}
		}
		return out
	}, err
}

func loadOf(r ipvs.RealState, c ipvs.Counters) loop.Load {
	return loop.Load{Weight: r.Weight, Active: r.Active, Inactive: r.Inactive, Counters: loop.Counters(c)}
}

// Totals implements loop.Meter. Aliases are left out: their address has lost a part of the frontend's.
func (m Meter) Totals(ctx context.Context) (map[plan.Address]loop.Load, error) {
	counters, err := m.Table.Totals(ctx)
	if err != nil {
		return nil, err
	}
	out := map[plan.Address]loop.Load{}
	for key, c := range counters {
		if key.Mark == 0 && !inAliases(key) && c != (ipvs.Counters{}) {
			out[AddressOf(key)] = loop.Load{Counters: loop.Counters(c)}
		}
	}
	return out, m.Table.Walk(ctx, func(key ipvs.Key, e ipvs.Entry) {
		total, isCounted := out[AddressOf(key)]
		if !isCounted {
			return
		}
		for _, r := range e.Reals {
			total = total.Add(loadOf(r, ipvs.Counters{}))
		}
		out[AddressOf(key)] = total
	})
}
