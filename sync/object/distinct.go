package object

import "slices"

// A distinct is a list without repetitions. The author of an object decides how long it gets, so only a short one is searched.
type distinct[T comparable] struct {
	list  []T
	index map[T]struct{} // of a list that is not short
}

// has reports whether the list holds v.
func (d *distinct[T]) has(v T) bool {
	if d.index == nil {
		return slices.Contains(d.list, v)
	}
	_, ok := d.index[v]
	return ok
}

// add appends v, unless the list holds it.
func (d *distinct[T]) add(v T) {
	const short = 64 // as fast to search as a map
	if d.has(v) {
		return
	}
	d.list = append(d.list, v)
	switch {
	case d.index != nil:
		d.index[v] = struct{}{}
	case len(d.list) == short:
		d.index = make(map[T]struct{}, 2*short)
		for _, have := range d.list {
			d.index[have] = struct{}{}
		}
	}
}

// seal frees spare capacity.
func (d *distinct[T]) seal() { d.list, d.index = exact(d.list), nil }
