package loop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"kube-ipvs/sync/delta"
)

// A layer is one part of the kernel's state. Layers are ensured in order and pruned in reverse, so that what a layer
// refers to stands as long as the layer does.
//
// What fails is left alone until it is due again: a change elsewhere neither tries it again nor reads anything for it.
type layer interface {
	// name says what the layer holds, for errors and metrics.
	name() string
	// observe reads what is there, if what is known of it cannot be trusted.
	observe(context.Context)
	// ensure makes what is wanted and not there, and mends what is there but not as wanted.
	ensure(context.Context)
	// prune removes what is there and not wanted.
	prune(context.Context)
	// doubt makes the next observe read.
	doubt()
	// again makes what failed due. What a failed operation left behind is for the kernel to say, so it is read first.
	again()
	// unread says that what is known cannot be trusted: nothing may be changed.
	unread() bool
	// pending is how many objects are not as wanted.
	pending() int
	// trouble is what failed and is not mended yet, or nil.
	trouble() error
	// hinders reports whether more than single objects of the layer cannot be programmed.
	hinders() bool
}

// A tableLayer is a layer whose objects are in a table. It is written once for all kinds of objects; a kind is described
// by its functions.
type tableLayer[K, V comparable, Op fmt.Stringer] struct {
	title   string
	table   *delta.Table[K, V]
	compare func(a, b K) int // the order in which objects are made; they are removed in reverse

	read func(context.Context) (iter.Seq2[K, V], error) // only what is ours
	do   func(context.Context, []Op) []error
	add  func(key K, value V, there bool) Op
	del  func(K) Op

	// ready, mayAdd and mayDel hold objects back as long as they say false: they stay pending. Nil: never. What all objects
	// of the layer wait for is for ready to say: it is asked once, and then none of them is looked at.
	ready          func() bool
	mayAdd, mayDel func(K) bool

	// quiet reports whether an object's failure is told elsewhere. Nil: never.
	quiet func(K) bool

	doubted    bool           // what is known may be wrong
	unreadable error          // why it could not be read again
	failed     map[K]*failure // objects that could not be changed
	excused    map[K]struct{} // those of them that were refused while others were changed, or before
	with       layer          // doubted when this one is in trouble, since its objects are in those; nil: none
	count      *counters
}

// A failure is an operation that did not go well. Its object may be as it was before or as it was to be: an answer can be
// lost, too.
type failure struct {
	error
	removal bool // it was to remove the object
}

// present reports whether an object is certainly there. One that could not be changed is; one that could not be removed may
// be gone.
func (l *tableLayer[K, V, Op]) present(k K) bool {
	_, known := l.table.Known(k)
	f := l.failed[k]
	return known && !l.unread() && (f == nil || !f.removal)
}

// absent reports whether an object is certainly not there. One that could not be made may be.
func (l *tableLayer[K, V, Op]) absent(k K) bool {
	_, known := l.table.Known(k)
	return !known && !l.unread() && l.failed[k] == nil
}

func (l *tableLayer[K, V, Op]) name() string { return l.title }
func (l *tableLayer[K, V, Op]) doubt()       { l.doubted = true }
func (l *tableLayer[K, V, Op]) unread() bool { return l.unreadable != nil }

func (l *tableLayer[K, V, Op]) pending() int {
	n := l.table.Pending()
	if l.quiet == nil {
		return n
	}
	for o := range l.table.Missing() {
		if l.quiet(o.Key()) {
			n--
		}
	}
	return n
}

func (l *tableLayer[K, V, Op]) again() {
	maps.DeleteFunc(l.failed, func(_ K, f *failure) bool { return errors.Is(f.error, errForeign) }) // nothing was tried
	if l.unreadable == nil && len(l.failed) == 0 {
		return
	}
	l.doubt()
	if l.with != nil {
		l.with.doubt()
	}
}

func (l *tableLayer[K, V, Op]) trouble() error {
	errs := []error{l.unreadable}
	for _, k := range slices.SortedFunc(maps.Keys(l.failed), l.compare) {
		if l.quiet == nil || !l.quiet(k) {
			errs = append(errs, l.failed[k].error)
		}
	}
	return summary(errs)
}

// manyRefused is how many refusals in a row, without a success in between, are the layer's fault and not the objects'.
const manyRefused = 10

// hinders also reports a layer whose every change is refused: all of it where it holds nothing yet, or many new objects. One
// object is never all of it: the kernel may have reasons of its own to refuse that one. Foreign servers are no refusal of the kernel's.
func (l *tableLayer[K, V, Op]) hinders() bool {
	refused := 0
	for k, f := range l.failed {
		if _, excused := l.excused[k]; !excused && !errors.Is(f.error, errForeign) && (l.quiet == nil || !l.quiet(k)) {
			refused++
		}
	}
	return l.unread() || refused >= manyRefused || refused > 1 && l.table.KnownLen() == 0
}

// excuse notes that the kernel changes some objects of the layer: those that it refuses have themselves to blame, and go on
// to when they are tried again.
func (l *tableLayer[K, V, Op]) excuse() {
	if l.excused == nil {
		l.excused = map[K]struct{}{}
	}
	for k := range l.failed {
		l.excused[k] = struct{}{}
	}
}

func (l *tableLayer[K, V, Op]) observe(ctx context.Context) {
	if !l.doubted {
		return
	}
	l.count.reads.Inc()
	read, err := l.read(ctx)
	l.doubted = false
	if err != nil {
		l.unreadable = fmt.Errorf("read %s: %w", l.title, err)
		return
	}
	l.unreadable = nil
	if len(l.failed) == 0 {
		clear(l.excused) // of what is gone
	}
	clear(l.failed)
	l.table.Observe(read)
}

func (l *tableLayer[K, V, Op]) ensure(ctx context.Context) {
	if l.table.Pending() == 0 || l.ready != nil && !l.ready() {
		return
	}
	due := make([]*delta.Object[K, V], 0, l.table.Pending())
	for o := range l.table.Missing() {
		if k := o.Key(); l.failed[k] == nil && (l.mayAdd == nil || l.mayAdd(k)) {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b *delta.Object[K, V]) int { return l.compare(a.Key(), b.Key()) })
	add := func(o *delta.Object[K, V]) Op { return l.add(o.Key(), o.Wanted(), o.IsKnown()) }
	perform(ctx, l, due, (*delta.Object[K, V]).Key, add, l.table.Made)
}

func (l *tableLayer[K, V, Op]) prune(ctx context.Context) { l.remove(ctx, l.mayDel) }

// remove removes what is there and not wanted and may go.
func (l *tableLayer[K, V, Op]) remove(ctx context.Context, may func(K) bool) {
	var keys []K
	for k := range l.table.Extra() {
		if may == nil || may(k) {
			keys = append(keys, k)
		}
	}
	backward := func(a, b K) int { return l.compare(b, a) }
	l.carryOut(ctx, l.due(keys, backward), l.del, l.table.Forget)
}

// due returns the keys in order, without those that failed.
func (l *tableLayer[K, V, Op]) due(keys []K, compare func(a, b K) int) []K {
	keys = slices.DeleteFunc(keys, func(k K) bool { return l.failed[k] != nil })
	slices.SortFunc(keys, compare)
	return keys
}

// mostOps is how many operations are there at a time. More would not be faster, since the kernel takes about as many in
// one send, and a hundred thousand take memory that is needed once.
const mostOps = 1000

// carryOut does an op for each key, and calls done for those that went well.
func (l *tableLayer[K, V, Op]) carryOut(ctx context.Context, keys []K, op func(K) Op, done func(K)) {
	perform(ctx, l, keys, func(k K) K { return k }, op, done)
}

// perform is carryOut for objects that are given by something else than their keys.
func perform[K, V comparable, Op fmt.Stringer, O any](
	ctx context.Context, l *tableLayer[K, V, Op], all []O, key func(O) K, op func(O) Op, done func(O),
) {
	ops, changed := make([]Op, 0, min(len(all), mostOps)), false
	for some := range slices.Chunk(all, mostOps) {
		ops = ops[:0]
		for _, o := range some {
			ops = append(ops, op(o))
		}
		l.count.asked(len(ops))
		results := l.do(ctx, ops)
		for i, o := range some {
			if err := errorAt(results, i); err != nil {
				l.fail(key(o), fmt.Errorf("%v: %w", ops[i], err))
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

// errorAt is the error of an op among those of all, or nil.
func errorAt(errs []error, i int) error {
	if errs == nil {
		return nil
	}
	return errs[i]
}

// fail leaves an object alone until it is due again.
func (l *tableLayer[K, V, Op]) fail(k K, err error) {
	l.count.failures.Inc()
	if l.failed == nil {
		l.failed = map[K]*failure{}
	}
	_, wanted := l.table.Wanted(k)
	l.failed[k] = &failure{error: err, removal: !wanted}
}

// summary joins the first few errors and counts the rest: ten thousand objects that fail for one reason are one message.
func summary(errs []error) error {
	const most = 5
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return errors.Join(errs...)
}
