package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// podCIDRWait is how long the Node may be without pod ranges at the start.
const podCIDRWait = 5 * time.Minute

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

// keepPodCIDRs fails when the Node has other pod ranges than at the start: the rules were written for those, and a new
// start writes them anew. A Node that is gone has none, which says nothing about its pods.
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
			return fmt.Errorf("--detect-local-mode=NodeCIDR: the Node's spec.podCIDRs were %v and are %v now: a new start is needed", had, now)
		}
	}
}
