//go:build cluster

// Package e2e_test runs kube-ipvs against a real API server, with the rights that deploy/ grants and no others: real objects
// go in, and packets say what came of them. The node is a test kernel beside the API server; an agent in it sends the
// packets (test/e2e/agent).
package e2e_test

import (
	"testing"
)

// TestEndToEnd tells one story after the other to one cluster, since a start takes long. Each removes what it made.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	w.node.start(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *world)
	}{
		{"a Service comes, changes and goes", testLife},
		{"its address families change", testFamilies},
		{"its type changes", testTypes},
		{"external IPs", testExternalIPs},
		{"headless and ExternalName", testNoAddress},
		{"a Service is given to another proxy and back", testOtherProxy},
		{"affinity", testAffinity},
		{"traffic policies", testPolicies},
		{"source ranges", testSourceRanges},
		{"UDP and SCTP", testProtocols},
		{"endpoints are unready, terminate and go", testConditions},
		{"endpoints move between slices", testSlices},
		{"the node's zone changes", testZones},
		{"the node is to be removed", testDrainedNode},
		{"a ServiceCIDR comes and goes", testServiceCIDR},
		{"two Services want one address", testConflict},
		{"a field that cannot be served", testBadField},
		{"how long changes take", testLatency},
		{"nothing failed and nothing was forbidden", testNothingFailed},
		{"the API server is away", testOutage},
		{"kube-ipvs is asked to end", testTerminated},
		{"kube-ipvs is killed, and starts while the API server is away", testKilled},
		{"without the right to read ServiceCIDRs", testFewerRights},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, w) })
	}
	if t.Failed() {
		t.Logf("kube-ipvs's log:\n%s", w.node.get(t, "/log", nil))
	}
}
