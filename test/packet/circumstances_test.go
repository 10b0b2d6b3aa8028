//go:build kernel

package packet

import (
	"slices"
	"testing"

	"kube-ipvs/test/lab"
)

// inBoth runs circumstances with kube-ipvs in both modes.
func inBoth(t *testing.T, cfg lab.Config, circumstances []circumstance) {
	cfg.NotCounting = true
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			newTrial(t, w, start(t, setup{bind: mode == "bind", detector: clusterCIDR}), mode, "eth0").inAll(circumstances)
		})
	}
}

// Others' rules change nothing, wherever in the kernel's chains they stand.
func TestCircumstancesOfRules(t *testing.T) { inBoth(t, lab.Config{}, othersRules) }

// Marks of others, and others' packets with marks like ours, change nothing.
func TestCircumstancesOfMarks(t *testing.T) { inBoth(t, lab.Config{}, othersMarks) }

// A firewall need not know of frontends; what it closes that is no Service's stays closed.
func TestCircumstancesOfFirewalls(t *testing.T) { inBoth(t, lab.Config{}, firewalls) }

// Host ports of others take no frontend.
func TestCircumstancesOfHostPorts(t *testing.T) { inBoth(t, lab.Config{}, hostPorts) }

// Policy rules and routes of others change nothing.
func TestCircumstancesOfRouting(t *testing.T) { inBoth(t, lab.Config{}, othersRouting) }

// Settings that others change on purpose change nothing.
func TestCircumstancesOfSettings(t *testing.T) { inBoth(t, lab.Config{}, othersSettings) }

// The node's links may be of other kinds than the plain ones, and come later.
func TestCircumstancesOfLinks(t *testing.T) { inBoth(t, lab.Config{}, othersLinks) }

// Pods may be on a bridge.
func TestCircumstancesOfBridges(t *testing.T) { inBoth(t, lab.Config{Bridge: true}, bridges) }

// Rules of others, and other uplinks, may have been there when the proxy came.
func TestCircumstancesBefore(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			for _, c := range slices.Concat(before, otherUplinks) {
				startIn(t, c, mode, func(*trial) {}, func(t *testing.T, _ *world) subject {
					return start(t, setup{bind: mode == "bind", detector: clusterCIDR})
				})
			}
		})
	}
}
