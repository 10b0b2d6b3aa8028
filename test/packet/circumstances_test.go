//go:build kernel

package packet

import (
	"testing"

	"kube-ipvs/test/lab"
)

// inBoth runs circumstances with kube-ipvs in both modes.
func inBoth(t *testing.T, cfg lab.Config, circumstances []circumstance) {
	cfg.NotCounting = true
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			newTrial(t, w, start(t, setup{bind: mode == "bind", detector: clusterCIDR}), mode).inAll(circumstances)
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

// Circumstances that were there when the proxy came.
func TestCircumstancesBefore(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		for _, c := range before {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				w := newWorld(t, lab.Config{NotCounting: true})
				for _, change := range c.changes {
					if err := change.do(w); err != nil {
						t.Error(err)
					}
					defer func() {
						if err := change.undo(w); err != nil {
							t.Error(err)
						}
					}()
				}
				c.changes = nil
				newTrial(t, w, start(t, setup{bind: mode == "bind", detector: clusterCIDR}), mode).in(c)
			})
		}
	}
}
