// Package delta holds tables that know what is wanted, what is known to be there, and the difference, at the cost of what
// changed: no method but Observe looks at more than one object.
package delta

import (
	"iter"
	"maps"
)

// A Table is one kind of kernel objects: each has a key and a value. Objects are wanted by Services and known from the
// kernel. The zero Table is not ready for use; see New.
//
//	      wanted                    known
//	┌──────────────────┬───────────────────────┬─────────┐
//	│ Missing: to make │ as wanted, or Changed │ Extra   │
//	└──────────────────┴───────────────────────┴─────────┘
type Table[K, V comparable] struct {
	objects map[K]object[V]
	known   int     // how many are known
	missing keys[K] // wanted, and not known or known with another value
	extra   keys[K] // known and not wanted
}

type object[V comparable] struct {
	wanted, known V
	claims        int32 // how many want it
	isKnown       bool
}

// New returns an empty table.
func New[K, V comparable]() *Table[K, V] {
	return &Table[K, V]{objects: map[K]object[V]{}}
}

// Want adds a claim to an object. Where several want the same object the last value counts; such objects have no value
// in practice.
func (t *Table[K, V]) Want(key K, value V) {
	o := t.objects[key]
	o.claims++
	o.wanted = value
	t.put(key, o)
}

// Set changes the value that a wanted object is to have. Of an object that nobody wants it does nothing.
func (t *Table[K, V]) Set(key K, value V) {
	if o := t.objects[key]; o.claims > 0 {
		o.wanted = value
		t.put(key, o)
	}
}

// Drop takes a claim back. It does nothing if there is none.
func (t *Table[K, V]) Drop(key K) {
	if o := t.objects[key]; o.claims > 0 {
		o.claims--
		t.put(key, o)
	}
}

// Learn notes that the kernel has the object with that value: it was made, or read.
func (t *Table[K, V]) Learn(key K, value V) {
	o := t.objects[key]
	o.known, o.isKnown = value, true
	t.put(key, o)
}

// Forget notes that the kernel does not have the object.
func (t *Table[K, V]) Forget(key K) {
	o := t.objects[key]
	var none V
	o.known, o.isKnown = none, false
	t.put(key, o)
}

// Observe replaces all that is known by what was read.
func (t *Table[K, V]) Observe(read iter.Seq2[K, V]) {
	seen := make(map[K]struct{})
	for k, v := range read {
		seen[k] = struct{}{}
		t.Learn(k, v)
	}
	for k := range t.objects {
		if _, ok := seen[k]; !ok {
			t.Forget(k)
		}
	}
}

// Wanted returns the value that the object is to have, and whether it is wanted.
func (t *Table[K, V]) Wanted(key K) (V, bool) {
	o := t.objects[key]
	return o.wanted, o.claims > 0
}

// Known returns the value that the kernel has, and whether it has the object.
func (t *Table[K, V]) Known(key K) (V, bool) {
	o := t.objects[key]
	return o.known, o.isKnown
}

// Missing yields what is wanted and not there, or there with another value, in no order. The table may be changed
// meanwhile.
func (t *Table[K, V]) Missing() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k := range t.missing.all() {
			if !yield(k, t.objects[k].wanted) {
				return
			}
		}
	}
}

// Extra yields what is there and not wanted, in no order. The table may be changed meanwhile.
func (t *Table[K, V]) Extra() iter.Seq[K] { return t.extra.all() }

// Pending returns how many objects are not as wanted.
func (t *Table[K, V]) Pending() int { return len(t.missing.set) + len(t.extra.set) }

// Len returns how many objects are wanted or known.
func (t *Table[K, V]) Len() int { return len(t.objects) }

// KnownLen returns how many objects the kernel is known to have.
func (t *Table[K, V]) KnownLen() int { return t.known }

// put stores an object and keeps the difference.
func (t *Table[K, V]) put(key K, o object[V]) {
	if was := t.objects[key].isKnown; was != o.isKnown {
		t.known++
		if was {
			t.known -= 2
		}
	}
	wanted := o.claims > 0
	t.missing.mark(key, wanted && (!o.isKnown || o.known != o.wanted))
	t.extra.mark(key, o.isKnown && !wanted)
	if !wanted && !o.isKnown {
		delete(t.objects, key)
		return
	}
	t.objects[key] = o
}

// Keys is one side of the difference.
type keys[K comparable] struct {
	set  map[K]struct{}
	most int // how many it held since it was made
}

// A map never shrinks, and is walked at the cost of the most that it ever held: all that was missing at the start would be
// paid for with every change. So a map that holds a quarter of that, and more than a few once, is made anew.
const (
	few    = 16
	shrunk = 4
)

func (s *keys[K]) mark(key K, in bool) {
	if in {
		if s.set == nil {
			s.set = map[K]struct{}{}
		}
		s.set[key] = struct{}{}
		s.most = max(s.most, len(s.set))
		return
	}
	delete(s.set, key)
	if s.most > few && len(s.set) <= s.most/shrunk {
		set := make(map[K]struct{}, len(s.set))
		maps.Copy(set, s.set)
		*s = keys[K]{set: set, most: len(set)}
	}
}

// all yields the keys. Those that leave the set before their turn are passed over.
func (s *keys[K]) all() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range s.set {
			if _, ok := s.set[k]; ok && !yield(k) {
				return
			}
		}
	}
}

// All yields what is known to be there, in no order.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, o := range t.objects {
			if o.isKnown && !yield(k, o.known) {
				return
			}
		}
	}
}

// Wants yields what is wanted, in no order.
func (t *Table[K, V]) Wants() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, o := range t.objects {
			if o.claims > 0 && !yield(k, o.wanted) {
				return
			}
		}
	}
}
