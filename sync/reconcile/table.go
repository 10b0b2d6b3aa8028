package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"kube-ipvs/sync/delta"
)

// A TableLayer is a layer whose objects are in a table, for all kinds of objects; the exported fields describe the kind. They
// are required unless their comment allows nil. The first Observe reads.
type TableLayer[K, V comparable, Op fmt.Stringer] struct {
	Title   string
	Table   *delta.Table[K, V]
	Compare func(a, b K) int // the order in which objects are added; they are removed in reverse

	Read func(context.Context) (iter.Seq2[K, V], error) // only owned objects
	Do   func(context.Context, []Op) []error
	Add  func(key K, value V, there bool) Op
	Del  func(K) Op // nil: nothing is ever removed

	// Ready, MayAdd and MayDel hold objects back while they return false: they stay pending. Nil: never. A condition of all
	// objects of the layer belongs into Ready: it is checked once, and then no object is visited.
	Ready          func() bool
	MayAdd, MayDel func(K) bool

	// Quiet reports whether an object's failure is reported elsewhere. Nil: never.
	Quiet func(K) bool
	// Aside reports whether an object waits for something that is reported elsewhere: it is not counted as pending or failing, and tried
	// again like all others. Nil: never.
	Aside func(K) bool

	// Blames returns what is to blame if an object is refused: all refusals for which it is the same count as one. Nil: the object itself.
	Blames func(K) any

	With  Layer // invalidated when this layer retries, since its objects are inside this layer's; nil: none
	Count *Counters

	observed bool           // a read was tried since Invalidate, successful or not
	readErr  error          // of the last read, or nil
	failed   map[K]*failure // objects that could not be changed
	excused  map[K]struct{} // failed ones that were refused while others were changed, or before
}

// A Declined is the reason why the layer did not request a change: its own decision, no failure of the kernel's.
type Declined string

// Error returns the reason.
func (d Declined) Error() string { return string(d) }

func isDeclined(err error) bool { return errors.As(err, new(Declined)) }

// A failure is a failed operation. Its object may be as before or as desired: an answer can be lost, too.
type failure struct {
	error
	removal bool // the operation was to remove the object
}

// Present reports whether an object certainly exists. One that could not be changed does; one that could not be removed may
// be gone.
func (l *TableLayer[K, V, Op]) Present(k K) bool {
	_, known := l.Table.Known(k)
	f := l.failed[k]
	return known && !l.Unknown() && (f == nil || !f.removal)
}

// Absent reports whether an object certainly does not exist. One that could not be made may exist.
func (l *TableLayer[K, V, Op]) Absent(k K) bool {
	_, known := l.Table.Known(k)
	return !known && !l.Unknown() && l.failed[k] == nil
}

// Name implements Layer.
func (l *TableLayer[K, V, Op]) Name() string { return l.Title }

// Invalidate implements Layer.
func (l *TableLayer[K, V, Op]) Invalidate() { l.observed = false }

// Unknown implements Layer.
func (l *TableLayer[K, V, Op]) Unknown() bool { return l.readErr != nil }

// Known implements Layer.
func (l *TableLayer[K, V, Op]) Known() int { return l.Table.KnownLen() }

// Failing implements Layer. It leaves out objects that are reported elsewhere.
func (l *TableLayer[K, V, Op]) Failing() int {
	n := 0
	for k := range l.failed {
		if !l.uncounted(k) {
			n++
		}
	}
	return n
}

// Pending implements Layer.
func (l *TableLayer[K, V, Op]) Pending() int {
	n := l.Table.Pending()
	if l.Quiet == nil && l.Aside == nil {
		return n
	}
	for o := range l.Table.Missing() {
		if l.uncounted(o.Key()) {
			n--
		}
	}
	return n
}

func (l *TableLayer[K, V, Op]) isQuiet(k K) bool { return l.Quiet != nil && l.Quiet(k) }

func (l *TableLayer[K, V, Op]) uncounted(k K) bool {
	return l.isQuiet(k) || l.Aside != nil && l.Aside(k)
}

// Retry implements Layer.
func (l *TableLayer[K, V, Op]) Retry() {
	maps.DeleteFunc(l.failed, func(_ K, f *failure) bool { return isDeclined(f.error) }) // never requested
	if l.readErr == nil && len(l.failed) == 0 {
		return
	}
	l.Invalidate()
	if l.With != nil {
		l.With.Invalidate()
	}
}

// Err implements Layer.
func (l *TableLayer[K, V, Op]) Err() error {
	if l.readErr == nil && len(l.failed) == 0 {
		return nil
	}
	errs := []error{l.readErr}
	for _, k := range slices.SortedFunc(maps.Keys(l.failed), l.Compare) {
		if !l.isQuiet(k) {
			errs = append(errs, l.failed[k].error)
		}
	}
	return Summary(errs)
}

// manyRefused is the number of refusals in a row for different causes, without a success in between, that blames the layer and not the
// objects.
const manyRefused = 10

// Blocked implements Layer. It also reports a layer whose every change is refused: all of an empty layer, or many new objects.
// One cause never blocks: the kernel may have reasons of its own to refuse that one. A Declined change is no refusal of the
// kernel's.
func (l *TableLayer[K, V, Op]) Blocked() bool {
	causes := map[any]struct{}{}
	for k, f := range l.failed {
		if _, excused := l.excused[k]; !excused && !isDeclined(f.error) && !l.isQuiet(k) {
			causes[l.cause(k)] = struct{}{}
		}
	}
	return l.Unknown() || len(causes) >= manyRefused || len(causes) > 1 && l.Table.KnownLen() == 0
}

func (l *TableLayer[K, V, Op]) cause(k K) any {
	if l.Blames == nil {
		return k
	}
	return l.Blames(k)
}

// excuse notes that the kernel changes some objects of the layer: it refuses the others for reasons of their own, also when
// they are retried.
func (l *TableLayer[K, V, Op]) excuse() {
	if l.excused == nil {
		l.excused = map[K]struct{}{}
	}
	for k := range l.failed {
		l.excused[k] = struct{}{}
	}
}

// Observe implements Layer.
func (l *TableLayer[K, V, Op]) Observe(ctx context.Context) {
	if l.observed {
		return
	}
	l.Count.Reads.Inc()
	read, err := l.Read(ctx)
	l.observed = true
	if err != nil {
		l.readErr = fmt.Errorf("read %s: %w", l.Title, err)
		return
	}
	l.readErr = nil
	if len(l.failed) == 0 {
		clear(l.excused) // of objects that are gone
	}
	clear(l.failed)
	l.Table.Observe(read)
}

// Ensure implements Layer.
func (l *TableLayer[K, V, Op]) Ensure(ctx context.Context) { l.Make(ctx, l.MayAdd) }

// Make makes the objects that are desired and may be made, and changes those that differ.
func (l *TableLayer[K, V, Op]) Make(ctx context.Context, may func(K) bool) {
	if l.Table.Pending() == 0 || l.Ready != nil && !l.Ready() {
		return
	}
	due := make([]*delta.Object[K, V], 0, l.Table.Pending())
	for o := range l.Table.Missing() {
		if k := o.Key(); l.failed[k] == nil && (may == nil || may(k)) {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b *delta.Object[K, V]) int { return l.Compare(a.Key(), b.Key()) })
	add := func(o *delta.Object[K, V]) Op { return l.Add(o.Key(), o.Wanted(), o.IsKnown()) }
	perform(ctx, l, due, (*delta.Object[K, V]).Key, add, l.Table.Made)
}

// Prune implements Layer.
func (l *TableLayer[K, V, Op]) Prune(ctx context.Context) { l.Remove(ctx, l.MayDel) }

// Remove removes the objects that are not desired and may be removed.
func (l *TableLayer[K, V, Op]) Remove(ctx context.Context, may func(K) bool) {
	var keys []K
	for k := range l.Table.Extra() {
		if may == nil || may(k) {
			keys = append(keys, k)
		}
	}
	backward := func(a, b K) int { return l.Compare(b, a) }
	l.CarryOut(ctx, l.Due(keys, backward), l.Del, l.Table.Forget)
}

// Due returns the keys in order, without those that failed.
func (l *TableLayer[K, V, Op]) Due(keys []K, compare func(a, b K) int) []K {
	keys = slices.DeleteFunc(keys, func(k K) bool { return l.failed[k] != nil })
	slices.SortFunc(keys, compare)
	return keys
}

// mostOps bounds the operations in memory at a time. More would not be faster, since the kernel takes about as many in one
// send, and a hundred thousand take memory that is needed once.
const mostOps = 1000

// CarryOut does an op for each key, and calls done for the successful ones.
func (l *TableLayer[K, V, Op]) CarryOut(ctx context.Context, keys []K, op func(K) Op, done func(K)) {
	perform(ctx, l, keys, func(k K) K { return k }, op, done)
}

// perform is CarryOut for objects that are not given by their keys.
func perform[K, V comparable, Op fmt.Stringer, O any](
	ctx context.Context, l *TableLayer[K, V, Op], all []O, key func(O) K, op func(O) Op, done func(O),
) {
	ops, changed := make([]Op, 0, min(len(all), mostOps)), false
	for some := range slices.Chunk(all, mostOps) {
		ops = ops[:0]
		for _, o := range some {
			ops = append(ops, op(o))
		}
		l.Count.Asked(len(ops))
		results := l.Do(ctx, ops)
		for i, o := range some {
			if err := ErrorAt(results, i); err != nil {
				l.Fail(key(o), fmt.Errorf("%v: %w", ops[i], err))
			} else {
				done(o)
				delete(l.excused, key(o))
				changed = true
			}
		}
	}
	if changed && len(l.failed) > 0 {
		l.excuse()
	}
}

// Fail leaves an object alone until it is due again.
func (l *TableLayer[K, V, Op]) Fail(k K, err error) {
	if !isDeclined(err) {
		l.Count.Failed(err)
	}
	if l.failed == nil {
		l.failed = map[K]*failure{}
	}
	_, wanted := l.Table.Wanted(k)
	l.failed[k] = &failure{error: err, removal: !wanted}
}

// HasFailed reports whether an object waits for Retry.
func (l *TableLayer[K, V, Op]) HasFailed(k K) bool { return l.failed[k] != nil }

// Failures yields the objects that could not be changed with their errors, in no order.
func (l *TableLayer[K, V, Op]) Failures() iter.Seq2[K, error] {
	return func(yield func(K, error) bool) {
		for k, f := range l.failed {
			if !yield(k, f.error) {
				return
			}
		}
	}
}
