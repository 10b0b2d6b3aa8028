package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
)

// clean removes all objects of kube-ipvs from this node. It refuses while kube-proxy serves there, whose ipvs mode would lose its
// virtual servers, and the other modes the connections that IPVS still has.
func clean(ctx context.Context, cfg *config.Config, stdout io.Writer) (err error) {
	unlock, err := lock(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if r := findKubeProxy(ctx, cfg); r.at.IsValid() {
		return fmt.Errorf("%v: give the node back to it by kube-ipvs hand-back %s", r, cmp.Or(r.mode, "MODE"))
	}
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
