package status

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Filter selects Services: by a State, or one of the following.
type Filter string

// The filters that are no states.
const (
	Troubled Filter = "Troubled" // any state but Served
	Unserved Filter = "Unserved" // a frontend is not served: another has its address, or the kernel refused it
	Draining Filter = "Draining" // an endpoint drains
)

var filters = []Filter{
	Filter(Served), Filter(Limited), Filter(Rejecting), Filter(Dropping), Filter(Pending), Filter(NotServed), Troubled, Unserved, Draining,
}

// A census is the state of all Services at a time, for searches and numbers. It takes the loop's time of each Service on its
// own, and so delays no change.
type census struct {
	services []counted // in order
	numbers  map[Filter]int
}

// A counted Service.
type counted struct {
	name       plan.Name
	state      State
	isUnserved bool
	isDraining bool
	addresses  []netip.Addr // of its frontends and endpoints, sorted
}

// censusAge is the least age of a census that is taken again.
const censusAge = 2 * time.Second

// count takes a census.
func (s *Server) count(ctx context.Context, _ *census) (census, error) {
	names, err := s.Loop.Names(ctx)
	if err != nil {
		return census{}, err
	}
	out := census{services: make([]counted, 0, len(names)), numbers: map[Filter]int{}}
	for _, name := range names {
		v, err := s.view(ctx, name, false)
		if errors.Is(err, loop.ErrUnknown) { // it was removed meanwhile
			continue
		}
		if err != nil {
			return census{}, err
		}
		c := v.counted()
		out.services = append(out.services, c)
		for _, f := range filters {
			if c.is(f) {
				out.numbers[f]++
			}
		}
	}
	return out, nil
}

// counted returns the Service as a census has it.
func (v view) counted() counted {
	item := v.service()[0]
	addresses := map[netip.Addr]struct{}{} // fewer than endpoints by far, where a Service has many ports
	for i := range v.Frontends {
		addresses[v.Frontends[i].Addr] = struct{}{}
	}
	for i := range v.Explanation.Endpoints {
		addresses[v.Explanation.Endpoints[i].At.Addr()] = struct{}{}
	}
	return counted{
		name: v.name, state: item.State, isUnserved: item.Served < item.Frontends, isDraining: item.Draining > 0,
		addresses: slices.Clip(slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare)),
	}
}

// is reports whether a filter selects the Service; the zero Filter selects all.
func (c *counted) is(f Filter) bool {
	switch f {
	case "":
		return true
	case Troubled:
		return c.state != Served
	case Unserved:
		return c.isUnserved
	case Draining:
		return c.isDraining
	}
	return c.state == State(f)
}

// has reports whether the Service has an address.
func (c *counted) has(a netip.Addr) bool {
	_, found := slices.BinarySearchFunc(c.addresses, a, netip.Addr.Compare)
	return found
}

// names returns the Services that a query is about, in order.
func (s *Server) names(ctx context.Context, q Query) ([]plan.Name, error) {
	search := strings.ToLower(q.Search)
	address := searchedAddress(search)
	if q.Only == "" && !address.IsValid() {
		names, err := s.Loop.Names(ctx)
		return slices.DeleteFunc(names, func(n plan.Name) bool {
			return q.Namespace != "" && n.Namespace != q.Namespace || search != "" && !strings.Contains(n.String(), search)
		}), err
	}
	all, err := s.census.get(ctx)
	var out []plan.Name
	for _, c := range all.services {
		found := address.IsValid() && c.has(address) || !address.IsValid() && strings.Contains(c.name.String(), search)
		if found && c.is(q.Only) && (q.Namespace == "" || c.name.Namespace == q.Namespace) {
			out = append(out, c.name)
		}
	}
	return out, err
}

// searchedAddress returns the address that a search is for, with or without a port, or the zero Addr: it is for a name.
func searchedAddress(search string) netip.Addr {
	text, _, _ := strings.Cut(search, "/")
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	a, _ := netip.ParseAddr(text) // the zero Addr: no address
	return a.Unmap().WithZone("")
}
