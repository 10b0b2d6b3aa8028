package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// nodeWhose returns the pod ranges of a Node: the first until the time, then the second.
func nodeWhose(first, second []netip.Prefix, after time.Duration) func() []netip.Prefix {
	start := time.Now()
	return func() []netip.Prefix {
		if time.Since(start) < after {
			return first
		}
		return second
	}
}

func TestPodCIDRsAreAwaited(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	synctest.Test(t, func(t *testing.T) {
		got, err := awaitPodCIDRs(t.Context(), nodeWhose(nil, ranges, 4*time.Minute))
		if err != nil || !slices.Equal(got, ranges) {
			t.Errorf("after 4 minutes: %v, %v", got, err)
		}
		if got, err := awaitPodCIDRs(t.Context(), nodeWhose(nil, ranges, 6*time.Minute)); err == nil {
			t.Errorf("after 6 minutes: %v, want an error", got)
		}
	})
}

func TestPodCIDRsThatChangeEndTheProgram(t *testing.T) {
	one := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	two := []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}
	for _, tt := range []struct {
		name string
		then []netip.Prefix
		want string // in the error
	}{
		{"the same", one, ""},
		{"the Node is gone", nil, ""},
		{"others", two, "were [10.244.1.0/24] and are [10.244.2.0/24] now"},
		{"one more", append(slices.Clone(one), two...), "are [10.244.1.0/24 10.244.2.0/24] now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := keepPodCIDRs(ctx, one, nodeWhose(one, tt.then, time.Minute))
				if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
			})
		})
	}
}
