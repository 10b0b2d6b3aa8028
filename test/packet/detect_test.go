//go:build kernel

package packet

import (
	"net/netip"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/test/lab"
)

// Pods are found by the ranges of the cluster or of this node, by a bridge, by the names of their links, or not at all;
// and cluster-IP traffic can be masqueraded from everybody.
func TestDetectors(t *testing.T) {
	here := map[source]bool{fromPod: true, fromEndpoint: true}
	for _, tt := range []struct {
		name  string
		lab   lab.Config
		setup setup
		truth rule
	}{
		{"NodeCIDR", lab.Config{}, setup{detector: ipvsmode.Detector{Prefixes: []netip.Prefix{lab.Pods[0], lab.Pods[1]}}}, rule{inside: here}},
		{"BridgeInterface", lab.Config{Bridge: true, LinkPrefix: "veth"}, setup{detector: ipvsmode.Detector{Interface: "cni0"}}, rule{inside: here}},
		{"InterfaceNamePrefix", lab.Config{}, setup{detector: ipvsmode.Detector{Interface: "cali+"}}, rule{inside: here}},
		{"none", lab.Config{}, setup{}, rule{}},
		{"none, bind", lab.Config{}, setup{bind: true}, rule{}},
		{"masquerade all", lab.Config{}, setup{detector: clusterCIDR, masqueradeAll: true}, rule{inside: byCIDR, masqueradeAll: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.lab)
			table := newTable(w, start(t, tt.setup), tt.truth)
			// Neither the protocol nor the other situations have to do with who is found inside.
			table.situations = []situation{situations[0], situations[2]}
			table.run(t, []inet.Protocol{inet.TCP})
		})
	}
}
