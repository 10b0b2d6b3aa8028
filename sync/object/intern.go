package object

import (
	"slices"
	"unique"
)

// A pool shares the bytes of equal strings with all other pools for as long as it lives. Strings that are not interned
// are cloned by hand, so that none keeps a decoded message in memory.
type pool struct {
	handles distinct[unique.Handle[string]]
}

// intern returns the shared copy of s.
func (p *pool) intern(s string) string {
	if s == "" {
		return ""
	}
	h := unique.Make(s)
	p.handles.add(h)
	return h.Value()
}

// A listPool shares one array between equal lists of strings.
type listPool [][]string

// share returns an equal list that was shared before, or else this one.
func (l *listPool) share(list []string) []string {
	for _, have := range *l {
		if slices.Equal(have, list) {
			return have
		}
	}
	*l = append(*l, list)
	return list
}
