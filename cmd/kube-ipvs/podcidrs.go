package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/internal/config"
)

// podCIDRWait is the longest time at the start without pod ranges of the Node.
const podCIDRWait = 5 * time.Minute

// podCIDRs waits for the Node's pod ranges if pods are found by them; nil: they are not.
func (p *proxy) podCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	if p.config.DetectLocal.Mode != config.NodeCIDR {
		return nil, nil
	}
	return awaitPodCIDRs(ctx, p.nodesPodCIDRs)
}

func (p *proxy) nodesPodCIDRs() []netip.Prefix { return p.source.Node().PodCIDRs }

// awaitPodCIDRs waits for the Node's pod ranges.
func awaitPodCIDRs(ctx context.Context, get func() []netip.Prefix) ([]netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, podCIDRWait)
	defer cancel()
	for {
		if found := get(); len(found) > 0 {
			return found, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("--detect-local-mode=NodeCIDR: the Node had no spec.podCIDRs for %v", podCIDRWait)
		}
	}
}

// keepPodCIDRs fails when the Node's pod ranges differ from those at the start: the rules depend on them, and a restart
// writes new ones. A Node that is gone has none, which means nothing for its pods.
func keepPodCIDRs(ctx context.Context, had []netip.Prefix, get func() []netip.Prefix) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if now := get(); len(now) > 0 && !slices.Equal(now, had) {
			return fmt.Errorf("--detect-local-mode=NodeCIDR: the Node's spec.podCIDRs were %v and are %v now: a restart is needed", had, now)
		}
	}
}
