package object

import (
	"slices"
	"unique"
)

// A pool makes equal strings share their bytes with all other pools, and keeps them shared for as long as it lives. A
// string that is not interned is cloned by hand, so that none keeps a decoded message in memory.
type pool struct{ handles []unique.Handle[string] }

// intern returns the shared copy of s.
func (p *pool) intern(s string) string {
	if s == "" {
		return ""
	}
	h := unique.Make(s)
	if !slices.Contains(p.handles, h) {
		p.handles = append(p.handles, h)
	}
	return h.Value()
}

// A lists makes equal lists of strings share one array.
type lists [][]string

// share returns the list that was shared before and equals this one, or this one.
func (l *lists) share(list []string) []string {
	for _, have := range *l {
		if slices.Equal(have, list) {
			return have
		}
	}
	*l = append(*l, list)
	return list
}
