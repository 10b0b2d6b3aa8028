//go:build kernel

package packet

import (
	"testing"

	"kube-ipvs/test/lab"
)

// inBoth runs circumstances with kube-ipvs in both modes.
func inBoth(t *testing.T, circumstances []circumstance) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, lab.Config{Forward: true})
			newTrial(t, w, start(t, setup{bind: mode == "bind", detector: clusterCIDR}), mode).inAll(circumstances)
		})
	}
}

// Others' rules change nothing, wherever in the kernel's chains they stand.
func TestCircumstancesOfRules(t *testing.T) { inBoth(t, othersRules) }

// Marks of others, and others' packets with marks like ours, change nothing.
func TestCircumstancesOfMarks(t *testing.T) { inBoth(t, othersMarks) }

// A firewall need not know of frontends; what it closes that is no Service's stays closed.
func TestCircumstancesOfFirewalls(t *testing.T) { inBoth(t, firewalls) }

// Host ports of others take no frontend.
func TestCircumstancesOfHostPorts(t *testing.T) { inBoth(t, hostPorts) }

// Policy rules and routes of others change nothing.
func TestCircumstancesOfRouting(t *testing.T) { inBoth(t, othersRouting) }

// Settings that others change on purpose change nothing.
func TestCircumstancesOfSettings(t *testing.T) { inBoth(t, othersSettings) }
