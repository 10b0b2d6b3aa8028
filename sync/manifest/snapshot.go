package manifest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// A snapshot is what a folder says at one moment. It does not change once it is made.
type snapshot struct {
	services map[plan.Name]plan.Service
	slices   map[plan.Name][]plan.Slice // by Service, in the order of their names
	node     object.Node
	cidrs    []netip.Prefix
	problems []plan.Problem
}

// assemble makes a snapshot of a folder, or of none, for a node.
func assemble(f *folder, nodeName string) *snapshot {
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

// problem reports something about a file or folder as a whole.
func (s *snapshot) problem(object, reason string) {
	s.problems = append(s.problems, plan.Problem{Object: object, Field: ".", Reason: reason})
}

// reportIgnored reports the first document of each kind that is none of ours.
func (s *snapshot) reportIgnored(f *folder) {
	seen := map[schema.GroupVersionKind]bool{}
	for _, name := range f.order {
		for _, i := range f.files[name].ignored {
			if seen[i.kind] {
				continue
			}
			seen[i.kind] = true
			s.problems = append(s.problems, plan.Problem{Object: i.where, Field: "kind",
				Reason: fmt.Sprintf("%s of %s is nothing to a proxy, and ignored here and elsewhere", i.kind.Kind, i.kind.GroupVersion())})
		}
	}
}

// unique returns every object once, in the order of ids: of those with the same id the one in the first file and document,
// and what is kept in spite of a mistake only where nothing good took its place.
func (s *snapshot) unique(f *folder) []entry {
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
	return sorted(found)
}

// sorted returns the entries in the order of their ids.
func sorted(found map[id]entry) []entry {
	out := make([]entry, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return a.id.compare(b.id) })
	return out
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

// changed returns the Services that differ from another snapshot's, by their own fields or their slices', in order.
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
