// Package reconcile makes a part of the kernel's state equal to what is wanted, whatever the objects are. State is cut into
// layers, and layers are stacked: a Stack is ensured forward and pruned backward, so that what a layer refers to exists as
// long as the layer does. A failure stops neither the other objects of its layer nor the other layers; it waits for Retry.
//
// TableLayer is the layer of objects in a table, written once for all kinds. Job, Throttle and Backoff are for layers whose
// kernel answers late, whose checks cost much, and for whoever drives a Stack.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Layer is one part of the kernel's state.
//
// What fails is left alone until Retry: a change elsewhere neither tries it again nor reads anything for it.
type Layer interface {
	// Name returns the layer's name, for errors and metrics.
	Name() string
	// Observe reads the kernel's state, if what is known of it is stale.
	Observe(context.Context)
	// Ensure adds objects that are wanted and not there, and changes those that are not as wanted.
	Ensure(context.Context)
	// Prune removes objects that are there and not wanted.
	Prune(context.Context)
	// Invalidate makes the next Observe read.
	Invalidate()
	// Retry schedules failed objects. A failed operation may have had an effect, so the layer is read again first.
	Retry()
	// Unknown reports whether the state could not be read: nothing may be changed.
	Unknown() bool
	// Pending returns how many objects are not as wanted.
	Pending() int
	// Err returns what failed and was not repaired yet, or nil.
	Err() error
	// Blocked reports whether more than single objects of the layer cannot be programmed.
	Blocked() bool
}

// A Stack is layers in the order in which they are ensured.
type Stack []Layer

// Observe reads what is stale. Beat is called after each layer.
func (s Stack) Observe(ctx context.Context, beat func()) {
	for _, layer := range s {
		layer.Observe(ctx)
		beat()
	}
}

// Sync ensures layer by layer, then prunes the other way round. A layer that fails stops no other: objects that depend on a
// missing one are held back one by one. Nothing is changed in a layer that could not be read.
func (s Stack) Sync(ctx context.Context) {
	for _, layer := range s {
		if !layer.Unknown() {
			layer.Ensure(ctx)
		}
	}
	for _, layer := range slices.Backward(s) {
		if !layer.Unknown() {
			layer.Prune(ctx)
		}
	}
}

// Invalidate makes the next Observe read everything.
func (s Stack) Invalidate() {
	for _, layer := range s {
		layer.Invalidate()
	}
}

// Retry schedules what failed in any layer.
func (s Stack) Retry() {
	for _, layer := range s {
		layer.Retry()
	}
}

// Err returns what failed and was not repaired yet, or nil.
func (s Stack) Err() error {
	var errs []error
	for _, layer := range s {
		if err := layer.Err(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Blocked reports whether more than single objects of any layer cannot be programmed.
func (s Stack) Blocked() bool { return slices.ContainsFunc(s, Layer.Blocked) }

// Summary joins the first few errors and counts the rest: ten thousand objects that fail for one reason are one message.
func Summary(errs []error) error {
	const most = 5
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > most {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return errors.Join(errs...)
}

// ErrorAt returns the error of an operation among those of all, or nil. A kernel that carried all of them out returns no
// errors at all.
func ErrorAt(errs []error, i int) error {
	if errs == nil {
		return nil
	}
	return errs[i]
}
