package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-logr/logr/funcr"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
)

// A kernel without IPv6 is a line in the log.
func TestFamilies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		has   string // in /proc/sys/net
		want  []inet.Family
		lines int
	}{
		{"both", "ipv6", []inet.Family{inet.IPv4, inet.IPv6}, 0},
		{"no IPv6", "ipv4", []inet.Family{inet.IPv4}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, lines := t.TempDir(), 0
			if err := os.MkdirAll(filepath.Join(root, "net", tt.has), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx := klog.NewContext(t.Context(), funcr.New(func(string, string) { lines++ }, funcr.Options{}))
			if got := families(ctx, root); !slices.Equal(got, tt.want) || lines != tt.lines {
				t.Errorf("%v with %d lines, want %v with %d", got, lines, tt.want, tt.lines)
			}
		})
	}
}
