package manifest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// A snapshot is the content of a directory at one moment. It is immutable.
type snapshot struct {
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice // by Service, in the order of their names
	node     object.Node
	cidrs    []netip.Prefix
	problems []plan.Problem
}

// assemble makes a node's snapshot of a directory; nil is an empty one.
func assemble(f *directory, nodeName string) *snapshot {
	s := &snapshot{
		services: map[plan.Name]plan.Service{},
		slices:   map[plan.Name][]plan.Slice{},
		node:     object.Node{Name: nodeName, Eligible: true},
	}
	if f == nil {
		return s
	}
	if f.problem != nil {
		s.problem(f.dir, cause(f.problem).Error())
	}
	for _, name := range f.order {
		s.problems = append(s.problems, f.files[name].problems...)
	}
	s.reportIgnored(f)
	for _, e := range s.unique(f) {
		s.add(e)
	}
	slices.SortFunc(s.cidrs, netip.Prefix.Compare)
	s.cidrs = slices.Compact(s.cidrs)
	return s
}

// problem reports a file or directory as a whole.
func (s *snapshot) problem(object, reason string) {
	s.problems = append(s.problems, plan.Problem{Object: object, Field: ".", Reason: reason})
}

// reportIgnored reports the first document of each unknown kind.
func (s *snapshot) reportIgnored(f *directory) {
	seen := map[schema.GroupVersionKind]bool{}
	for _, name := range f.order {
		for _, i := range f.files[name].ignored {
			if seen[i.kind] {
				continue
			}
			seen[i.kind] = true
			s.problems = append(s.problems, plan.Problem{Object: i.where, Field: "kind",
				Reason: fmt.Sprintf("%s of %s is of no use to a proxy; ignored here and in all other documents", i.kind.Kind, i.kind.GroupVersion())})
		}
	}
}

// unique returns every object once, sorted by id. Of those with the same id, the one in the first file and document
// counts; a kept one counts only where no good one does.
func (s *snapshot) unique(f *directory) []entry {
	found := map[id]entry{}
	for _, name := range f.order {
		for _, e := range f.files[name].good {
			if first, ok := found[e.id]; ok {
				s.problem(e.where, fmt.Sprintf("%v is in %s already", e.id, first.where))
				continue
			}
			found[e.id] = e
		}
	}
	for _, name := range f.order {
		for _, e := range f.files[name].kept {
			if _, ok := found[e.id]; !ok {
				found[e.id] = e
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b entry) int { return a.id.compare(b.id) })
}

// add adds an object.
func (s *snapshot) add(e entry) {
	switch v := e.value.(type) {
	case plan.Service:
		s.services[v.Name] = v
	case plan.Slice:
		s.slices[v.Service] = append(s.slices[v.Service], v)
	case object.Node:
		if v.Name == s.node.Name {
			s.node = v
			s.problems = append(s.problems, v.Problems...)
		}
	case object.CIDRs:
		s.cidrs = append(s.cidrs, v.Prefixes...)
		s.problems = append(s.problems, v.Problems...)
	}
}

// changed returns the Services that differ from another snapshot's, by their own fields or their slices', sorted.
func (s *snapshot) changed(before *snapshot) []plan.Name {
	var out []plan.Name
	for name := range s.services {
		if !s.same(before, name) {
			out = append(out, name)
		}
	}
	for name := range before.services {
		if _, ok := s.services[name]; !ok {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(a, b plan.Name) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (s *snapshot) same(o *snapshot, name plan.Name) bool {
	before, ok := o.services[name]
	return ok && object.SameService(before, s.services[name]) &&
		slices.EqualFunc(o.slices[name], s.slices[name], object.SameSlice)
}
