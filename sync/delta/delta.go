// Package delta holds tables that know what is wanted, what is known to be there, and the difference, at the cost of what
// changed: no method but Observe looks at more than one object.
package delta

import (
	"iter"
	"slices"
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
	known   int          // how many are known
	differ  [settled][]K // those on each side of the difference, in no order
}

type object[V comparable] struct {
	wanted, known V
	claims        int32 // how many want it
	place         int32 // in the list of its side
	isKnown       bool
}

// A side is where an object is in the picture.
type side uint8

const (
	missing side = iota // wanted, and not known or known with another value
	extra               // known and not wanted
	settled             // as wanted, or neither wanted nor known
)

func (o *object[V]) side() side {
	wanted := o.claims > 0
	switch {
	case wanted && (!o.isKnown || o.known != o.wanted):
		return missing
	case o.isKnown && !wanted:
		return extra
	}
	return settled
}

// New returns an empty table.
func New[K, V comparable]() *Table[K, V] {
	return &Table[K, V]{objects: map[K]object[V]{}}
}

// Want adds a claim to an object. Where several want the same object the last value counts; such objects have no value
// in practice.
func (t *Table[K, V]) Want(key K, value V) {
	before := t.objects[key]
	o := before
	o.claims++
	o.wanted = value
	t.put(key, before, o)
}

// Set changes the value that a wanted object is to have. Of an object that nobody wants it does nothing.
func (t *Table[K, V]) Set(key K, value V) {
	if before := t.objects[key]; before.claims > 0 {
		o := before
		o.wanted = value
		t.put(key, before, o)
	}
}

// Drop takes a claim back. It does nothing if there is none.
func (t *Table[K, V]) Drop(key K) {
	if before := t.objects[key]; before.claims > 0 {
		o := before
		o.claims--
		t.put(key, before, o)
	}
}

// Learn notes that the kernel has the object with that value: it was made, or read.
func (t *Table[K, V]) Learn(key K, value V) {
	before := t.objects[key]
	o := before
	o.known, o.isKnown = value, true
	t.put(key, before, o)
}

// Made notes that the kernel has a wanted object as it is wanted.
func (t *Table[K, V]) Made(key K) {
	before := t.objects[key]
	o := before
	o.known, o.isKnown = o.wanted, true
	t.put(key, before, o)
}

// Forget notes that the kernel does not have the object.
func (t *Table[K, V]) Forget(key K) {
	before := t.objects[key]
	o := before
	var none V
	o.known, o.isKnown = none, false
	t.put(key, before, o)
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

// Both returns the value that a wanted object is to have, and whether the kernel has the object, with any value.
func (t *Table[K, V]) Both(key K) (wanted V, isKnown bool) {
	o := t.objects[key]
	return o.wanted, o.isKnown
}

// Missing yields what is wanted and not there, or there with another value, in no order. Meanwhile the object at hand may
// be changed, and others may not.
func (t *Table[K, V]) Missing() iter.Seq[K] { return t.walk(missing) }

// Extra yields what is there and not wanted, in no order. Meanwhile the object at hand may be changed, and others may not.
func (t *Table[K, V]) Extra() iter.Seq[K] { return t.walk(extra) }

// Pending returns how many objects are not as wanted.
func (t *Table[K, V]) Pending() int { return len(t.differ[missing]) + len(t.differ[extra]) }

// Len returns how many objects are wanted or known.
func (t *Table[K, V]) Len() int { return len(t.objects) }

// KnownLen returns how many objects the kernel is known to have.
func (t *Table[K, V]) KnownLen() int { return t.known }

// put stores an object in the place of what it was before, and keeps the difference.
func (t *Table[K, V]) put(key K, before, o object[V]) {
	if before.isKnown != o.isKnown {
		t.known++
		if before.isKnown {
			t.known -= 2
		}
	}
	from, to := before.side(), o.side()
	if from != to {
		t.leave(from, before.place)
		o.place = t.enter(to, key)
	}
	if o.claims == 0 && !o.isKnown {
		delete(t.objects, key)
		return
	}
	t.objects[key] = o
}

// enter puts an object on the list of a side, and returns its place there.
func (t *Table[K, V]) enter(s side, key K) int32 {
	if s == settled {
		return 0
	}
	list := t.differ[s]
	if len(list) == cap(list) {
		list = slices.Grow(list, max(few, len(list))) // append alone would copy a long list several times as often
	}
	t.differ[s] = append(list, key)
	return int32(len(list))
}

// few is how long a list may have been whose memory is kept when it is empty.
const few = 16

// leave takes an object off the list of a side. The last one there takes its place.
func (t *Table[K, V]) leave(s side, place int32) {
	if s == settled {
		return
	}
	list := t.differ[s]
	end := len(list) - 1
	if last := list[end]; int(place) != end {
		list[place] = last
		moved := t.objects[last]
		moved.place = place
		t.objects[last] = moved
	}
	clear(list[end:])
	t.differ[s] = list[:end]
	if end == 0 && cap(list) > few {
		t.differ[s] = nil
	}
}

// walk yields the objects of a side, the last first: whoever takes the place of the one at hand had its turn.
func (t *Table[K, V]) walk(s side) iter.Seq[K] {
	return func(yield func(K) bool) {
		for i := len(t.differ[s]) - 1; i >= 0; i-- {
			if !yield(t.differ[s][i]) {
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
