//go:build kernel && nft

package kernel

import "testing"

// User-mode Linux has no nft tables for IP: see the Makefile's target nft.
func TestIptablesNFT(t *testing.T) { iptablesConforms(t, "nft", "legacy") }
