package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"kube-ipvs/sync/loop"
)

// clean removes all that is ours from this node.
func (o *options) clean(ctx context.Context, stdout io.Writer) (err error) {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	k, err := openKernel(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := loop.Clean(ctx, k.config(loop.Config{})); err != nil {
		return fmt.Errorf("not everything could be removed: %w", err)
	}
	fmt.Fprintln(stdout, "Everything of kube-ipvs was removed from this node.")
	return nil
}
