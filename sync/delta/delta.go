// Package delta holds tables of desired and actual objects, and the difference between them. Every method but Observe
// costs the same however large the table is.
package delta

import (
	"hash/maphash"
	"iter"
	"slices"
)

// A Table holds one kind of kernel objects, each with a key and a value. Services want objects: the desired state. The
// kernel has objects, known as far as they were read or changed: the actual state. The difference is Missing (pending
// updates) and Extra (pending deletions). An extra object may be kept for a while, and is no part of the difference then. References are
// counted: an object that two Services want stays until both drop it. New makes a Table.
//
//	      wanted                     known
//	┌───────────────────┬────────────────────┬─────────┐
//	│ Missing: to make, │ in sync            │ Extra:  │
//	│ or to change      │                    │ to drop │
//	└───────────────────┴────────────────────┴─────────┘
type Table[K, V comparable] struct {
	hash    func(K) uint32
	objects map[uint32]*Object[K, V] // by the hash of the key; the key is in the object alone, since keys are large
	wanted  int                      // number of wanted objects
	known   int                      // number of known objects
	lost    int                      // number of lost objects
	differ  [inSync][]*Object[K, V]  // the objects of each side of the difference, in no order
}

// An Object is an object of a table while it is wanted or known. A caller that holds one saves the look-up.
type Object[K, V comparable] struct {
	key           K
	wanted, known V
	next          *Object[K, V] // the next object whose key has the same hash
	refs          int32         // number of references
	index         int32         // in the list of its side
	side          side
	isKnown       bool
	kept          bool // though nobody wants it
	lost          bool // an Observe found it to differ, and it differs still
	seen          bool // by the current Observe
}

// Key returns the object's key.
func (o *Object[K, V]) Key() K { return o.key }

// Wanted returns the desired value, if the object is wanted.
func (o *Object[K, V]) Wanted() V { return o.wanted }

// IsKnown reports whether the kernel has the object, with any value.
func (o *Object[K, V]) IsKnown() bool { return o.isKnown }

// A side is the place of an object in the picture.
type side uint8

const (
	missing side = iota // wanted, and unknown or known with another value
	extra               // known, not wanted and not kept
	inSync              // known with the desired value, kept, or neither wanted nor known
)

// currentSide returns the side on which the object belongs.
func (o *Object[K, V]) currentSide() side {
	wanted := o.refs > 0
	switch {
	case wanted && (!o.isKnown || o.known != o.wanted):
		return missing
	case o.isKnown && !wanted && !o.kept:
		return extra
	}
	return inSync
}

// New returns an empty table.
func New[K, V comparable]() *Table[K, V] {
	seed := maphash.MakeSeed()
	return &Table[K, V]{
		hash:    func(key K) uint32 { return uint32(maphash.Comparable(seed, key)) },
		objects: map[uint32]*Object[K, V]{},
	}
}

// Want adds a reference to an object. If several want the same object with different values, the last value counts; in
// practice objects that are shared have none.
func (t *Table[K, V]) Want(key K, value V) {
	o := t.findOrAdd(key)
	if o.refs++; o.refs == 1 {
		t.wanted++
	}
	o.wanted, o.kept = value, false
	t.classify(o)
}

// Drop removes a reference. Dropping an object that nobody wants does nothing.
func (t *Table[K, V]) Drop(key K) {
	if o := t.find(key); o != nil && o.refs > 0 {
		if o.refs--; o.refs == 0 {
			t.wanted--
		}
		t.classify(o)
	}
}

// Learn notes that the kernel has the object with this value, made or read.
func (t *Table[K, V]) Learn(key K, value V) { t.learn(t.findOrAdd(key), value) }

// Made notes that the kernel now has a wanted object with its desired value.
func (t *Table[K, V]) Made(o *Object[K, V]) { t.learn(o, o.wanted) }

func (t *Table[K, V]) learn(o *Object[K, V], value V) {
	if !o.isKnown {
		t.known++
	}
	o.kept = o.kept && o.known == value
	o.known, o.isKnown = value, true
	t.classify(o)
}

// Forget notes that the kernel does not have the object.
func (t *Table[K, V]) Forget(key K) {
	if o := t.find(key); o != nil && o.isKnown {
		t.known--
		var none V
		o.known, o.isKnown, o.kept = none, false, false
		t.classify(o)
	}
}

// Observe replaces the known state by a complete read.
func (t *Table[K, V]) Observe(read iter.Seq2[K, V]) {
	for k, v := range read {
		o := t.findOrAdd(k)
		before := o.side
		o.seen = true
		t.learn(o, v)
		t.noteLost(o, before)
	}
	for o := range t.all() {
		if before := o.side; o.isKnown && !o.seen {
			t.Forget(o.key)
			t.noteLost(o, before)
		}
		o.seen = false
	}
}

// noteLost notes that an object is in sync no more, after an Observe.
func (t *Table[K, V]) noteLost(o *Object[K, V], before side) {
	if before == inSync && o.side != inSync && !o.lost {
		o.lost = true
		t.lost++
	}
}

// Lost returns the number of objects that were in sync, or unknown, before an Observe found them to differ, and that differ still.
func (t *Table[K, V]) Lost() int { return t.lost }

// Keep makes an extra object no part of the difference, until Release, until it is wanted, or until it has another value.
func (t *Table[K, V]) Keep(key K) { t.keep(key, true) }

// Release makes a kept object extra again.
func (t *Table[K, V]) Release(key K) { t.keep(key, false) }

func (t *Table[K, V]) keep(key K, kept bool) {
	if o := t.find(key); o != nil && o.refs == 0 && o.isKnown {
		o.kept = kept
		t.classify(o)
	}
}

// Wanted returns the desired value of an object, and whether it is wanted.
func (t *Table[K, V]) Wanted(key K) (value V, isWanted bool) {
	if o := t.find(key); o != nil {
		value, isWanted = o.wanted, o.refs > 0
	}
	return value, isWanted
}

// Known returns the kernel's value of an object, and whether the kernel has it.
func (t *Table[K, V]) Known(key K) (value V, isKnown bool) {
	if o := t.find(key); o != nil {
		value, isKnown = o.known, o.isKnown
	}
	return value, isKnown
}

// Missing yields the wanted objects that are unknown or known with another value, in no order. During the iteration the
// current object may be changed, others may not.
func (t *Table[K, V]) Missing() iter.Seq[*Object[K, V]] { return t.onSide(missing) }

// Extra yields the keys of the known objects that nobody wants and that are not kept, in no order. During the iteration the current
// object may be changed, others may not.
func (t *Table[K, V]) Extra() iter.Seq[K] {
	return func(yield func(K) bool) {
		for o := range t.onSide(extra) {
			if !yield(o.key) {
				return
			}
		}
	}
}

// Pending returns the number of missing and extra objects.
func (t *Table[K, V]) Pending() int { return len(t.differ[missing]) + len(t.differ[extra]) }

// WantedLen returns the number of wanted objects.
func (t *Table[K, V]) WantedLen() int { return t.wanted }

// KnownLen returns the number of known objects.
func (t *Table[K, V]) KnownLen() int { return t.known }

// find returns an object, or nil.
func (t *Table[K, V]) find(key K) *Object[K, V] {
	o := t.objects[t.hash(key)]
	for o != nil && o.key != key {
		o = o.next
	}
	return o
}

// findOrAdd returns an object, new if necessary. The caller makes a new one wanted or known.
func (t *Table[K, V]) findOrAdd(key K) *Object[K, V] {
	h := t.hash(key)
	first := t.objects[h]
	for o := first; o != nil; o = o.next {
		if o.key == key {
			return o
		}
	}
	o := &Object[K, V]{key: key, next: first, side: inSync}
	t.objects[h] = o
	return o
}

// remove removes an object from the table.
func (t *Table[K, V]) remove(o *Object[K, V]) {
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

// classify updates the difference after a change of an object.
func (t *Table[K, V]) classify(o *Object[K, V]) {
	if now := o.currentSide(); now != o.side {
		t.unlist(o)
		o.side = now
		t.list(o)
	}
	if o.lost && o.side == inSync {
		o.lost = false
		t.lost--
	}
	if o.refs == 0 && !o.isKnown {
		t.remove(o)
	}
}

// list adds an object to the list of its side.
func (t *Table[K, V]) list(o *Object[K, V]) {
	if o.side == inSync {
		return
	}
	list := t.differ[o.side]
	if len(list) == cap(list) {
		list = slices.Grow(list, max(minKept, len(list))) // append alone would copy a long list several times as often
	}
	o.index = int32(len(list))
	t.differ[o.side] = append(list, o)
}

// minKept is the capacity up to which an empty list keeps its memory.
const minKept = 16

// unlist removes an object from the list of its side. The last object of the list takes its index.
func (t *Table[K, V]) unlist(o *Object[K, V]) {
	if o.side == inSync {
		return
	}
	list := t.differ[o.side]
	end := len(list) - 1
	last := list[end]
	list[o.index], last.index = last, o.index
	list[end] = nil
	t.differ[o.side] = list[:end]
	if end == 0 && cap(list) > minKept {
		t.differ[o.side] = nil
	}
}

// onSide yields the objects of a side, the last first: an object that moves to the index of the current one was already
// yielded.
func (t *Table[K, V]) onSide(s side) iter.Seq[*Object[K, V]] {
	return func(yield func(*Object[K, V]) bool) {
		for i := len(t.differ[s]) - 1; i >= 0; i-- {
			if !yield(t.differ[s][i]) {
				return
			}
		}
	}
}

// all yields all objects, in no order. During the iteration the current object may be changed.
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

// All yields the known objects with the kernel's values, in no order.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for o := range t.all() {
			if o.isKnown && !yield(o.key, o.known) {
				return
			}
		}
	}
}

// Wants yields the wanted objects with their desired values, in no order.
func (t *Table[K, V]) Wants() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for o := range t.all() {
			if o.refs > 0 && !yield(o.key, o.wanted) {
				return
			}
		}
	}
}
