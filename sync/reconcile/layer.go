// Package reconcile reconciles a part of the kernel's state with the desired one, for any kind of objects. State is cut into
// layers, and layers are stacked: a Stack is ensured forward and pruned backward, so that the objects that a layer refers to
// exist as long as the layer does. A failure stops neither other objects of its layer nor other layers; it waits for Retry.
//
// TableLayer is the layer of objects in a table, written once for all kinds. Job is for layers with a slow kernel interface,
// Throttle for those with expensive checks, and Backoff for the owner of a Stack.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Layer is one part of the kernel's state.
//
// A failed object is left alone until Retry: a change elsewhere neither retries it nor reads anything for it.
type Layer interface {
	// Name returns the layer's name, for errors and metrics.
	Name() string
	// Observe reads the kernel's state if the known one is stale.
	Observe(context.Context)
	// Ensure adds missing objects, and changes those that differ from the desired state.
	Ensure(context.Context)
	// Prune removes objects that are not desired.
	Prune(context.Context)
	// Invalidate makes the next Observe read.
	Invalidate()
	// Retry schedules failed objects. A failed operation may have had an effect, so the layer is read again first.
	Retry()
	// Unknown reports whether the state could not be read: nothing may be changed.
	Unknown() bool
	// Known returns the number of objects that the kernel is known to have.
	Known() int
	// Pending returns the number of objects that are not as desired.
	Pending() int
	// Failing returns the number of objects whose change failed and waits for Retry.
	Failing() int
	// Err returns the failures that were not repaired yet, or nil.
	Err() error
	// Blocked reports whether more than single objects of the layer cannot be programmed.
	Blocked() bool
}

// A Stack is layers in the order in which they are ensured.
type Stack []Layer

// Observe reads stale layers. Beat is called after each layer.
func (s Stack) Observe(ctx context.Context, beat func()) {
	for _, layer := range s {
		layer.Observe(ctx)
		beat()
	}
}

// Sync ensures layer by layer, then prunes in reverse. A failing layer stops no other: objects that depend on a missing one
// are held back one by one. Nothing is changed in a layer that could not be read.
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

// Retry schedules the failed objects of all layers.
func (s Stack) Retry() {
	for _, layer := range s {
		layer.Retry()
	}
}

// Err returns the failures that were not repaired yet, or nil.
func (s Stack) Err() error {
	var errs []error
	for _, layer := range s {
		if err := layer.Err(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Failing returns the number of objects of all layers that could not be changed.
func (s Stack) Failing() int {
	n := 0
	for _, layer := range s {
		n += layer.Failing()
	}
	return n
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

// ErrorAt returns the error of one operation of several, or nil. A kernel that carried all of them out returns no errors at
// all.
func ErrorAt(errs []error, i int) error {
	if errs == nil {
		return nil
	}
	return errs[i]
}
