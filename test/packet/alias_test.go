//go:build kernel

package packet

import (
	"context"
	"slices"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// TestAlias holds connections of pods and nodes that were made through an alias. Of what clients send only the first packet passes IPVS,
// which tells connection tracking the endpoint (ip_vs_update_conntrack in net/netfilter/ipvs/ip_vs_nfct.c): tracking sends all others
// there. A connection needs neither its real server nor the alias, though IPVS, which sees answers, counts it as active.
func TestAlias(t *testing.T) {
	local := func(st *stage) { st.svc.ExternalLocal = true }
	for _, tt := range []struct {
		mode string
		bind bool
	}{{"divert", false}, {"bind", true}} {
		t.Run(tt.mode, func(t *testing.T) {
			st := newStage(t, setup{detector: clusterCIDR, bind: tt.bind})
			st.play("TCP", inet.TCP, func(st *stage) { st.outlivesAlias(time.Minute + 10*time.Second) }, local)
			st.play("SCTP", inet.SCTP, func(st *stage) { st.outlivesAlias(0) }, local)
			st.play("UDP", inet.UDP, (*stage).leavesAlias, local)
		})
	}
}

// outlivesAlias holds connections to a remote endpoint, old ones and young ones, while all that they were made through changes and goes.
func (st *stage) outlivesAlias(age time.Duration) {
	lines := st.throughAlias()
	for begin := time.Now(); time.Since(begin) < age; time.Sleep(5 * time.Second) {
		st.holdAll(lines)
	}
	if age > 0 {
		lines = append(lines, st.throughAlias()...)
	}
	here, far, other := ready("pod1", true), ready("far1", false), ready("faraway", false)
	for _, step := range []struct {
		what    string
		to      []endpoint
		cluster bool
		alias   string // what there is then
	}{
		{"others change", []endpoint{here, far, other}, false, "an alias with the endpoint"},
		{"the endpoint leaves all slices", []endpoint{here, other}, false, "an alias"},
		{"the last remote endpoint leaves", []endpoint{here}, false, "no alias"},
		{"all are back", allReady, false, "an alias with the endpoint"},
		{"the endpoint terminates", []endpoint{here, state("far1", going), other}, false, "an alias"},
		{"the last local endpoint leaves", []endpoint{far, other}, false, "no alias"},
		{"all are back again", allReady, false, "an alias with the endpoint"},
		{"the policy is Cluster", allReady, true, "no alias"},
		{"the endpoint leaves under Cluster", []endpoint{here, other}, true, "no alias"},
		{"the policy is Local again", allReady, false, "an alias with the endpoint"},
	} {
		st.svc.ExternalLocal = !step.cluster
		st.endpoints(step.to...)
		st.holdAll(lines)
		st.again()
		st.holdAll(lines)
		if got := st.alias(); got != step.alias {
			st.t.Errorf("%s, want %s", got, step.alias)
		}
		if st.t.Failed() {
			st.t.Fatalf("after: %s", step.what)
		}
	}
	st.remove(st.svc.Name)
	st.settle()
	n := len(lines)
	lines = slices.DeleteFunc(lines, st.fromBound)
	st.holdAll(lines)
	st.t.Logf("%d connections, %d outlive the Service", n, len(lines))
}

// fromBound reports whether a connection is from an address of bind mode, as those of the node are to it: that goes with the Service.
func (st *stage) fromBound(c line) bool {
	local, err := c.Local()
	st.must(err)
	return st.setup.bind && local.Addr() == c.to.Addr() && c.to.Addr() != st.Node.Addr(c.to.Addr().Is6())
}

// throughAlias connects pods and nodes to an endpoint on another node, and fails the test unless that was through aliases.
func (st *stage) throughAlias() []line {
	st.t.Helper()
	before := st.aliased("far1")
	var lines []line
	for _, v6 := range []bool{false, true} {
		for _, to := range []frontend{toLoadBalancer, toNodePort} {
			for _, from := range []source{fromPod, fromNode} {
				lines = append(lines, st.dialTo("far1", from, st.address(st.svc, to, v6)))
			}
		}
	}
	made := 0
	for k, r := range st.aliased("far1") {
		made += int(r.Active+r.Inactive) - int(before[k].Active+before[k].Inactive)
	}
	if made < len(lines) {
		st.t.Errorf("%d connections were made through aliases, want all %d", made, len(lines))
	}
	return lines
}

// aliased returns the real servers that a pod is behind aliases.
func (st *stage) aliased(pod string) map[ipvs.RealKey]ipvs.RealState {
	st.t.Helper()
	table, err := st.cfg.IPVS.Read(context.Background())
	st.must(err)
	out := map[ipvs.RealKey]ipvs.RealState{}
	for k, entry := range table {
		for at, r := range entry.Reals {
			if inet.AliasRange(inet.FamilyOf(k.Addr)).Contains(k.Addr) && at.Addr() == st.Pod(pod).Addr(k.Addr.Is6()) {
				out[ipvs.RealKeyOf(k, at)] = r
			}
		}
	}
	return out
}

// alias describes the aliases that there are.
func (st *stage) alias() string {
	st.t.Helper()
	switch {
	case len(st.aliased("far1")) > 0:
		return "an alias with the endpoint"
	case len(st.aliased("pod1")) > 0:
		return "an alias"
	}
	return "no alias"
}

func (st *stage) holdAll(lines []line) {
	st.t.Helper()
	for _, c := range lines {
		st.holds(c)
	}
}

// leavesAlias takes the endpoint away that clients have who keep their port: they move, since UDP has no connections to keep.
func (st *stage) leavesAlias() {
	lines := st.throughAlias()
	st.endpoints(without("far1")...)
	st.clean("far1")
	for _, c := range lines {
		if a := c.Ask(context.Background()); a.Err != nil || a.Who == c.who {
			st.t.Errorf("a client of %s: %v", c.who, a)
		}
		st.must(c.Close())
	}
}
