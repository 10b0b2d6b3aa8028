package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"kube-ipvs/internal/inet"
)

// A choice is the endpoints of one Service port in one family, by use. The rules are those of kube-proxy's
// CategorizeEndpoints, in the words of Kubernetes: KEP-1669 (terminating endpoints), KEP-2086 (internal policy), KEP-2433 and
// KEP-3015 (zone and node hints).
type choice struct {
	all     []candidate // that may serve
	cluster []candidate // for Cluster policies, by the hints
	local   []candidate // for Local policies, on this node
	any     bool        // an endpoint on any node could serve: a Local policy without local ones drops, not rejects
	here    []candidate // all endpoints that may run on this node, in any state
}

// A candidate is an endpoint at the number of one Service port.
type candidate struct {
	ep   *Endpoint
	port uint16
}

func (c candidate) at() netip.AddrPort { return netip.AddrPortFrom(c.ep.Addr, c.port) }

// choose sorts the endpoints of a port by their use on this node, without those that may not serve.
func choose(cfg *Config, all []candidate, node Node) choice {
	all = filter(all, cfg.mayServe)
	ready, fallback := split(all)
	c := choice{all: all, any: len(ready)+len(fallback) > 0}
	c.cluster = near(ready, node)
	if len(ready) == 0 {
		c.cluster = fallback
	}
	c.local = filter(ready, node.runs)
	if len(c.local) == 0 {
		c.local = filter(fallback, node.runs)
	}
	c.here = filter(all, node.mayRun)
	return c
}

// split returns the ready endpoints, and the fallback where none is ready: terminating but still serving ones.
func split(all []candidate) (ready, fallback []candidate) {
	ready = filter(all, func(e *Endpoint) bool { return e.Ready })
	fallback = filter(all, (*Endpoint).standsIn)
	return ready, fallback
}

// near narrows the ready endpoints to those hinted for this node, or else for its zone. Hints of a kind are ignored if one
// endpoint has none, or none names this node or zone.
func near(ready []candidate, node Node) []candidate {
	for _, hint := range []struct {
		of   func(*Endpoint) []string
		mine string
	}{
		{func(e *Endpoint) []string { return e.NodeHints }, node.Name},
		{func(e *Endpoint) []string { return e.ZoneHints }, node.Zone},
	} {
		complete := !slices.ContainsFunc(ready, func(c candidate) bool { return len(hint.of(c.ep)) == 0 })
		if hint.mine == "" || !complete {
			continue
		}
		mine := filter(ready, func(e *Endpoint) bool { return slices.Contains(hint.of(e), hint.mine) })
		if len(mine) > 0 {
			return mine
		}
	}
	return ready
}

// filter returns the candidates to keep; if these are all, the list itself. Usually all endpoints are alike, and nothing is
// copied.
func filter(in []candidate, keep func(*Endpoint) bool) []candidate {
	kept := 0
	for _, c := range in {
		if keep(c.ep) {
			kept++
		}
	}
	if kept == len(in) {
		return in
	}
	out := slices.Grow([]candidate(nil), kept)
	for _, c := range in {
		if keep(c.ep) {
			out = append(out, c)
		}
	}
	return out
}

// A listedPort is a port of a slice, with the slice's endpoints.
type listedPort struct {
	SlicePort
	endpoints []Endpoint
}

// compare orders listed ports by the port of the Service that they belong to.
func (l listedPort) compare(name string, proto inet.Protocol) int {
	return cmp.Or(cmp.Compare(l.Proto, proto), cmp.Compare(l.Name, name))
}

// listPorts returns the ports of all slices, those of one Service port side by side: both a Service and its slices may have many.
func listPorts(in []Slice) []listedPort {
	total := 0
	for i := range in {
		total += len(in[i].Ports)
	}
	out := make([]listedPort, 0, total)
	for i := range in {
		for _, p := range in[i].Ports {
			out = append(out, listedPort{p, in[i].Endpoints})
		}
	}
	slices.SortStableFunc(out, func(a, b listedPort) int { return a.compare(b.Name, b.Proto) })
	return out
}

// candidates returns the endpoints of a Service port in a family, one for each address and port, in order.
func candidates(port Port, family inet.Family, listed []listedPort) []candidate {
	is := func(l listedPort, p Port) int { return l.compare(p.Name, p.Proto) }
	first, _ := slices.BinarySearchFunc(listed, port, is)
	end, most := first, 0
	for ; end < len(listed) && is(listed[end], port) == 0; end++ {
		most += len(listed[end].endpoints)
	}
	out := make([]candidate, 0, most)
	for _, l := range listed[first:end] {
		for i := range l.endpoints {
			if ep := &l.endpoints[i]; inet.FamilyOf(ep.Addr) == family {
				out = append(out, candidate{ep, l.Port})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		return cmp.Or(a.at().Compare(b.at()), rank(a.ep)-rank(b.ep))
	})
	return slices.CompactFunc(out, func(a, b candidate) bool { return a.at() == b.at() })
}

// rank orders the copies of an endpoint; the lowest counts: one that stays before a terminating one, then the healthier.
func rank(e *Endpoint) int {
	r := 0
	for i, bad := range []bool{!e.Serving, !e.Ready, e.Terminating} {
		if bad {
			r |= 1 << i
		}
	}
	return r
}
