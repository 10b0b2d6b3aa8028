package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
)

// clean removes all objects of kube-ipvs from this node.
func clean(ctx context.Context, cfg *config.Config, stdout io.Writer) (err error) {
	unlock, err := lock(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	k, err := openKernel(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := ipvsmode.Clean(ctx, k.Kernel()); err != nil {
		return fmt.Errorf("cleanup incomplete: %w", err)
	}
	fmt.Fprintln(stdout, "Removed all objects of kube-ipvs from this node.")
	return nil
}
