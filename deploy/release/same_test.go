//go:build release

package main

import "testing"

// TestSameBytes makes the release of this repository twice. The first time takes minutes: all is compiled for both architectures, and
// kubectl's plugin for six platforms.
func TestSameBytes(t *testing.T) {
	r := release{version: "v0.0.0-test", home: "https://example.com/kube-ipvs", source: "../..", cache: cache}
	a, b := r, r
	a.out, b.out = t.TempDir(), t.TempDir()
	same(t, made(t, a), made(t, b))
}
