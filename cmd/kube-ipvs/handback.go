package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
)

// handBackModes are the modes of kube-proxy that a node can be given back to.
var handBackModes = []string{"ipvs", "iptables", "nftables"}

// handBackCommand gives the node back to kube-proxy.
func handBackCommand() *cobra.Command {
	var flags *config.Flags
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "hand-back {" + strings.Join(handBackModes, "|") + "}",
		Short: "Give this node back to kube-proxy, in that mode",
		Long: `Give this node back to kube-proxy, in that mode.

Run this on the node, then stop kube-ipvs there and start kube-proxy: it waits for the end of the one, and until the other serves. What
kube-ipvs made serves until then. In ipvs mode no connection is lost; if this begins after kube-proxy, internal sources are refused at
external addresses and node ports with a Local policy until it ends. In the other modes kube-proxy takes new connections, and IPVS
keeps the established ones until they end or --wait has passed. Starting in nftables mode, however, kube-proxy flushes IPVS if it can
run modprobe.

It may be repeated at any time.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: handBackModes, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := flags.Load()
			if err != nil {
				return err
			}
			return handBack(cmd.Context(), cfg, args[0], limit, cmd.OutOrStdout())
		},
	}
	flags = config.AddFlags(cmd.Flags())
	cmd.Flags().DurationVar(&limit, "wait", 10*time.Minute, "How long to wait for the end of kube-ipvs, for kube-proxy, and then for the end of connections that it does not keep.")
	return cmd
}

// handBack waits until no kube-ipvs runs and kube-proxy serves, and leaves the node to it.
func handBack(ctx context.Context, cfg *config.Config, mode string, limit time.Duration, stdout io.Writer) (err error) {
	unlock, err := lock(ctx, limit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	k, err := openKernel(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	randomly, err := k.Rules.HasRandomFully()
	if err != nil {
		return err
	}
	h := ipvsmode.HandBack{
		Kernel: k.Kernel(),
		Rules:  ipvsmode.RulesConfig{Marks: ipvsmode.MarksFor(cfg.Masquerade.Bit), Bind: cfg.VIPMode == config.Bind, PredictablePorts: !randomly},
		Keep:   mode == "ipvs", Limit: limit,
		Waits: func(n int) { fmt.Fprintf(stdout, "%d connections are left to IPVS.\n", n) },
	}
	if err := h.Prepare(ctx); err != nil {
		return fmt.Errorf("prepare the hand-back: %w", err)
	}
	if err := awaitMode(ctx, cfg, mode, limit, h, stdout); err != nil {
		return err
	}
	if err := h.Do(ctx); err != nil {
		return fmt.Errorf("hand back: %w", err)
	}
	fmt.Fprintf(stdout, "Handed this node back to kube-proxy in mode %s.\n", mode)
	return nil
}

// awaitMode waits until kube-proxy serves in a mode.
func awaitMode(ctx context.Context, cfg *config.Config, mode string, limit time.Duration, h ipvsmode.HandBack, stdout io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("kube-proxy does not serve: start it on this node, with its metrics at "+cfg.Metrics.String()))
	defer cancel()
	told := false
	for {
		r := findKubeProxy(ctx, cfg)
		if r.mode != "" && r.mode != mode {
			return fmt.Errorf("%v, and not %s", r, mode)
		}
		if r.mode == mode && hasSynced(get(ctx, r.at, "/metrics")) {
			serves, err := h.Serves(ctx)
			if err != nil {
				return err
			}
			if serves {
				return nil
			}
		}
		if !told {
			fmt.Fprintf(stdout, "Waiting until kube-proxy serves in mode %s.\n", mode)
			told = true
		}
		wait(ctx, 500*time.Millisecond)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// hasSynced reports whether kube-proxy's metrics tell of two syncs: it makes one for each family, counts both together before 1.37, and
// with one family alone makes another soon.
func hasSynced(metrics string) bool {
	syncs := 0.
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); strings.HasPrefix(name, "kubeproxy_sync_proxy_rules_duration_seconds_count") && err == nil {
			syncs += n
		}
	}
	return syncs >= 2
}
