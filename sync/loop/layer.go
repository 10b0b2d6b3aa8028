package loop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"kube-ipvs/sync/delta"
)

// A layer is one part of the kernel's state. Layers are ensured in order and pruned in reverse, so that what a layer
// refers to stands as long as the layer does.
type layer interface {
	// name says what the layer holds, for errors and metrics.
	name() string
	// observe reads what is there, if what is known of it cannot be trusted.
	observe(context.Context) error
	// ensure makes what is wanted and not there, and mends what is there but not as wanted.
	ensure(context.Context) error
	// prune removes what is there and not wanted.
	prune(context.Context) error
	// doubt makes the next observe read.
	doubt()
	// unread says that what is known cannot be trusted: nothing may be changed.
	unread() bool
	// pending is how many objects are not as wanted.
	pending() int
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

	// mayAdd and mayDel hold an object back as long as they say false: it stays pending. Nil: never.
	mayAdd, mayDel func(K) bool

	doubted    bool // what is known may be wrong
	unreadable bool // and could not be read again
	count      *counters
}

func (l *tableLayer[K, V, Op]) name() string { return l.title }
func (l *tableLayer[K, V, Op]) doubt()       { l.doubted = true }
func (l *tableLayer[K, V, Op]) unread() bool { return l.unreadable }
func (l *tableLayer[K, V, Op]) pending() int { return l.table.Pending() }

func (l *tableLayer[K, V, Op]) observe(ctx context.Context) error {
	if !l.doubted {
		return nil
	}
	l.count.reads.Inc()
	read, err := l.read(ctx)
	l.unreadable = err != nil
	if err != nil {
		return fmt.Errorf("read %s: %w", l.title, err)
	}
	l.table.Observe(read)
	l.doubted = false
	return nil
}

func (l *tableLayer[K, V, Op]) ensure(ctx context.Context) error {
	var keys []K
	for k := range l.table.Missing() {
		if l.mayAdd == nil || l.mayAdd(k) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, l.compare)
	ops := make([]Op, len(keys))
	for i, k := range keys {
		wanted, _ := l.table.Wanted(k)
		_, there := l.table.Known(k)
		ops[i] = l.add(k, wanted, there)
	}
	return l.carryOut(ctx, ops, func(i int) {
		wanted, _ := l.table.Wanted(keys[i])
		l.table.Learn(keys[i], wanted)
	})
}

func (l *tableLayer[K, V, Op]) prune(ctx context.Context) error { return l.remove(ctx, l.mayDel) }

// remove removes what is there and not wanted and may go.
func (l *tableLayer[K, V, Op]) remove(ctx context.Context, may func(K) bool) error {
	var keys []K
	for k := range l.table.Extra() {
		if may == nil || may(k) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b K) int { return l.compare(b, a) })
	ops := make([]Op, len(keys))
	for i, k := range keys {
		ops[i] = l.del(k)
	}
	return l.carryOut(ctx, ops, func(i int) { l.table.Forget(keys[i]) })
}

// carryOut does the ops and calls done for each that succeeded. The others are returned, each with its op.
func (l *tableLayer[K, V, Op]) carryOut(ctx context.Context, ops []Op, done func(i int)) error {
	if len(ops) == 0 {
		return nil
	}
	l.count.operations.Add(float64(len(ops)))
	results := l.do(ctx, ops)
	var failed []error
	for i, op := range ops {
		if results == nil || results[i] == nil {
			done(i)
			continue
		}
		l.count.failures.Inc()
		failed = append(failed, fmt.Errorf("%v: %w", op, results[i]))
	}
	// What a failed operation left behind is for the kernel to say.
	l.doubted = l.doubted || len(failed) > 0
	return summary(failed)
}

// summary joins the first few errors and counts the rest: ten thousand objects that fail for one reason are one message.
func summary(errs []error) error {
	const most = 5
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return errors.Join(errs...)
}
