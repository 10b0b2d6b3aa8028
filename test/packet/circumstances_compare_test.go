//go:build kernel && compare

package packet

import (
	"slices"
	"testing"

	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
)

// TestCompareCircumstances asks kube-proxy in the same circumstances. Its iptables mode shows that they are fair: a node in such
// a state is one on which a cluster works. What its ipvs mode gets wrong is counted.
func TestCompareCircumstances(t *testing.T) {
	for _, mode := range []string{kubeproxy.IPTables, kubeproxy.IPVS} {
		prepare := func(tr *trial) { tr.forgive, tr.counted = func() { tr.excuse(quirks[mode]) }, mode == kubeproxy.IPVS }
		t.Run(mode, func(t *testing.T) {
			for _, group := range []struct {
				name          string
				cfg           lab.Config
				circumstances []circumstance
			}{
				{"plain", lab.Config{}, slices.Concat(othersRules, othersMarks, firewalls, hostPorts, othersRouting, othersSettings, othersLinks)},
				{"bridge", lab.Config{Bridge: true}, bridges},
			} {
				t.Run(group.name, func(t *testing.T) {
					group.cfg.Forward, group.cfg.NotCounting = true, true // kube-proxy's iptables mode leaves forwarding to others
					w := newWorld(t, group.cfg)
					tr := newTrial(t, w, startPeer(t, w, mode), mode, "eth0")
					prepare(tr)
					tr.inAll(group.circumstances)
				})
			}
			for _, c := range slices.Concat(before, otherUplinks) {
				startIn(t, c, mode, prepare, func(t *testing.T, w *world) subject { return startPeer(t, w, mode) })
			}
		})
	}
}
