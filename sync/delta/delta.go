// Package delta holds tables that know what is wanted, what is known to be there, and the difference, at the cost of what
// changed: no method but Observe looks at more than one object.
package delta

import (
	"hash/maphash"
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
	hash    func(K) uint32
	objects map[uint32]*Object[K, V] // by the hash of the key; the key is in the object alone, since keys are large
	len     int                      // how many objects there are
	known   int                      // how many of them are known
	differ  [settled][]*Object[K, V] // those on each side of the difference, in no order
}

// An Object is an object of a table, as long as it is wanted or known. Who has it needs not look it up.
type Object[K, V comparable] struct {
	key           K
	wanted, known V
	next          *Object[K, V] // another one whose key has the same hash
	claims        int32         // how many want it
	place         int32         // in the list of its side
	side          side
	isKnown       bool
	seen          bool // by the Observe that goes on
}

// Key returns the object's key.
func (o *Object[K, V]) Key() K { return o.key }

// Wanted returns the value that the object is to have, if it is wanted.
func (o *Object[K, V]) Wanted() V { return o.wanted }

// IsKnown says whether the kernel has the object, with any value.
func (o *Object[K, V]) IsKnown() bool { return o.isKnown }

// A side is where an object is in the picture.
type side uint8

const (
	missing side = iota // wanted, and not known or known with another value
	extra               // known and not wanted
	settled             // as wanted, or neither wanted nor known
)

// sideNow is the side on which the object belongs.
func (o *Object[K, V]) sideNow() side {
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
	seed := maphash.MakeSeed()
	return &Table[K, V]{
		hash:    func(key K) uint32 { return uint32(maphash.Comparable(seed, key)) },
		objects: map[uint32]*Object[K, V]{},
	}
}

// Want adds a claim to an object. Where several want the same object the last value counts; such objects have no value
// in practice.
func (t *Table[K, V]) Want(key K, value V) {
	o := t.take(key)
	o.claims++
	o.wanted = value
	t.settle(o)
}

// Set changes the value that a wanted object is to have. Of an object that nobody wants it does nothing.
func (t *Table[K, V]) Set(key K, value V) {
	if o := t.find(key); o != nil && o.claims > 0 {
		o.wanted = value
		t.settle(o)
	}
}

// Drop takes a claim back. It does nothing if there is none.
func (t *Table[K, V]) Drop(key K) {
	if o := t.find(key); o != nil && o.claims > 0 {
		o.claims--
		t.settle(o)
	}
}

// Learn notes that the kernel has the object with that value: it was made, or read.
func (t *Table[K, V]) Learn(key K, value V) { t.learn(t.take(key), value) }

// Made notes that the kernel has an object that is wanted as it is wanted.
func (t *Table[K, V]) Made(o *Object[K, V]) { t.learn(o, o.wanted) }

func (t *Table[K, V]) learn(o *Object[K, V], value V) {
	if !o.isKnown {
		t.known++
	}
	o.known, o.isKnown = value, true
	t.settle(o)
}

// Forget notes that the kernel does not have the object.
func (t *Table[K, V]) Forget(key K) {
	if o := t.find(key); o != nil && o.isKnown {
		t.known--
		var none V
		o.known, o.isKnown = none, false
		t.settle(o)
	}
}

// Observe replaces all that is known by what was read.
func (t *Table[K, V]) Observe(read iter.Seq2[K, V]) {
	for k, v := range read {
		o := t.take(k)
		o.seen = true
		t.learn(o, v)
	}
	for o := range t.all() {
		if o.isKnown && !o.seen {
			t.Forget(o.key)
		}
		o.seen = false
	}
}

// Wanted returns the value that the object is to have, and whether it is wanted.
func (t *Table[K, V]) Wanted(key K) (value V, isWanted bool) {
	if o := t.find(key); o != nil {
		value, isWanted = o.wanted, o.claims > 0
	}
	return value, isWanted
}

// Known returns the value that the kernel has, and whether it has the object.
func (t *Table[K, V]) Known(key K) (value V, isKnown bool) {
	if o := t.find(key); o != nil {
		value, isKnown = o.known, o.isKnown
	}
	return value, isKnown
}

// Missing yields what is wanted and not there, or there with another value, in no order. Meanwhile the object at hand may
// be changed, and others may not.
func (t *Table[K, V]) Missing() iter.Seq[*Object[K, V]] { return t.walk(missing) }

// Extra yields the keys of what is there and not wanted, in no order. Meanwhile the object at hand may be changed, and others
// may not.
func (t *Table[K, V]) Extra() iter.Seq[K] {
	return func(yield func(K) bool) {
		for o := range t.walk(extra) {
			if !yield(o.key) {
				return
			}
		}
	}
}

// Pending returns how many objects are not as wanted.
func (t *Table[K, V]) Pending() int { return len(t.differ[missing]) + len(t.differ[extra]) }

// Len returns how many objects are wanted or known.
func (t *Table[K, V]) Len() int { return t.len }

// KnownLen returns how many objects the kernel is known to have.
func (t *Table[K, V]) KnownLen() int { return t.known }

// find returns an object, or nil.
func (t *Table[K, V]) find(key K) *Object[K, V] {
	o := t.objects[t.hash(key)]
	for o != nil && o.key != key {
		o = o.next
	}
	return o
}

// take returns an object. One that is not there is made, for the caller to want or to know.
func (t *Table[K, V]) take(key K) *Object[K, V] {
	h := t.hash(key)
	first := t.objects[h]
	for o := first; o != nil; o = o.next {
		if o.key == key {
			return o
		}
	}
	o := &Object[K, V]{key: key, next: first, side: settled}
	t.objects[h] = o
	t.len++
	return o
}

// remove takes an object out of the table.
func (t *Table[K, V]) remove(o *Object[K, V]) {
	t.len--
	h := t.hash(o.key)
	first := t.objects[h]
	switch {
	case first != o:
		for first.next != o {
			first = first.next
		}
		first.next = o.next
	case o.next != nil:
		t.objects[h] = o.next
	default:
		delete(t.objects, h)
	}
}

// settle keeps the difference after an object changed.
func (t *Table[K, V]) settle(o *Object[K, V]) {
	if now := o.sideNow(); now != o.side {
		t.leave(o)
		o.side = now
		t.enter(o)
	}
	if o.claims == 0 && !o.isKnown {
		t.remove(o)
	}
}

// enter puts an object on the list of its side.
func (t *Table[K, V]) enter(o *Object[K, V]) {
	if o.side == settled {
		return
	}
	list := t.differ[o.side]
	if len(list) == cap(list) {
		list = slices.Grow(list, max(few, len(list))) // append alone would copy a long list several times as often
	}
	o.place = int32(len(list))
	t.differ[o.side] = append(list, o)
}

// few is how long a list may have been whose memory is kept when it is empty.
const few = 16

// leave takes an object off the list of its side. The last one there takes its place.
func (t *Table[K, V]) leave(o *Object[K, V]) {
	if o.side == settled {
		return
	}
	list := t.differ[o.side]
	end := len(list) - 1
	last := list[end]
	list[o.place], last.place = last, o.place
	list[end] = nil
	t.differ[o.side] = list[:end]
	if end == 0 && cap(list) > few {
		t.differ[o.side] = nil
	}
}

// walk yields the objects of a side, the last first: whoever takes the place of the one at hand had its turn.
func (t *Table[K, V]) walk(s side) iter.Seq[*Object[K, V]] {
	return func(yield func(*Object[K, V]) bool) {
		for i := len(t.differ[s]) - 1; i >= 0; i-- {
			if !yield(t.differ[s][i]) {
				return
			}
		}
	}
}

// all yields all objects, in no order. Meanwhile the object at hand may be changed.
func (t *Table[K, V]) all() iter.Seq[*Object[K, V]] {
	return func(yield func(*Object[K, V]) bool) {
		for _, o := range t.objects {
			for o != nil {
				next := o.next
				if !yield(o) {
					return
				}
				o = next
			}
		}
	}
}

// All yields what is known to be there, in no order.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for o := range t.all() {
			if o.isKnown && !yield(o.key, o.known) {
				return
			}
		}
	}
}

// Wants yields what is wanted, in no order.
func (t *Table[K, V]) Wants() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for o := range t.all() {
			if o.claims > 0 && !yield(o.key, o.wanted) {
				return
			}
		}
	}
}
