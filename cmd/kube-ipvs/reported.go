package main

import (
	"cmp"
	"maps"
	"slices"

	"kube-ipvs/sync/plan"
)

// A reported holds the current problems by key, so that each is reported once as long as it lasts.
type reported[K comparable] map[K]map[plan.Problem]struct{}

// replace replaces the problems of a key, and returns the difference: new ones in the given order, solved ones sorted.
func (r reported[K]) replace(key K, problems []plan.Problem) (added, solved []plan.Problem) {
	before, now := r[key], make(map[plan.Problem]struct{}, len(problems))
	for _, p := range problems {
		_, again := now[p]
		_, known := before[p]
		if !again && !known {
			added = append(added, p)
		}
		now[p] = struct{}{}
	}
	for p := range before {
		if _, lasts := now[p]; !lasts {
			solved = append(solved, p)
		}
	}
	slices.SortFunc(solved, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	if r[key] = now; len(now) == 0 {
		delete(r, key)
	}
	return added, solved
}

// len returns the number of problems of all keys.
func (r reported[K]) len() (n int) {
	for problems := range maps.Values(r) {
		n += len(problems)
	}
	return n
}
