//go:build kernel && compare

package packet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
)

// TestCompare asks the truth table of kube-proxy too, in the same kernel and with the same packets. kube-proxy's iptables mode
// shows that the table is fair, and its ipvs mode what the table finds. Why they are wrong where they are is known: a wrong
// cell without a reason is a failure, as every wrong cell of kube-ipvs is.
func TestCompare(t *testing.T) {
	w := newWorld(t, lab.Config{Forward: true}) // kube-proxy's iptables mode leaves that to others
	var summary []string
	for _, mode := range []string{"divert", "bind"} {
		t.Run("kube-ipvs "+mode, func(t *testing.T) {
			forget(t)
			table := newTable(w, start(t, setup{bind: mode == "bind", detector: clusterCIDR}), rule{inside: byCIDR})
			table.run(t, protocols)
			summary = append(summary, fmt.Sprintf("kube-ipvs %s: %s", mode, table.totals()))
		})
	}
	for _, mode := range []string{kubeproxy.IPTables, kubeproxy.IPVS} {
		t.Run("kube-proxy "+mode, func(t *testing.T) {
			table := newTable(w, startPeer(t, w, mode), rule{inside: byCIDR})
			if mode == kubeproxy.IPTables {
				table.turns = 16 // its endpoints do not take turns: each packet goes anywhere
			}
			table.fill(t, protocols)
			summary = append(summary, fmt.Sprintf("kube-proxy %s: %s", mode, table.totals()))
			summary = append(summary, table.excuse(quirks[mode])...)
			table.report(t)
		})
	}
	t.Logf("in short\n%s", strings.Join(summary, "\n"))
}

// A quirk is a reason why kube-proxy is wrong in some cells.
type quirk struct {
	name   string
	causes func(wrongCell) bool
}

// quirks of each mode. Letters are the specification's, which lists where ipvs mode departs from the others. Of ipvs mode's
// packets none is to get no answer.
var quirks = map[string][]quirk{
	kubeproxy.IPTables: {
		// It refuses in INPUT and FORWARD; nftables mode does in OUTPUT too. The router sends them back, where IPv6 refuses them
		// and IPv4 takes them for forged: their source is the node.
		{"the node's own packets to external addresses that nobody serves are not refused, but leave it", func(w wrongCell) bool {
			return w.cell.from == fromNode && w.cell.external() && w.cell.want.fate == "refused"
		}},
	},
	kubeproxy.IPVS: {
		{"a: external, Local, from the node: not masqueraded, and endpoints here come first", func(w wrongCell) bool {
			return w.cell.from == fromNode && w.cell.to != toClusterIP && w.cell.rule.externalLocal && w.answer.Err == nil
		}},
		{"b: external, Local, from pods: endpoints here come first", func(w wrongCell) bool {
			return w.cell.rule.inside[w.cell.from] && w.cell.to != toClusterIP && w.cell.rule.externalLocal && w.answer.Err == nil && !w.sawService()
		}},
		{"d: cluster IP, Local, no endpoint here: answered from elsewhere", func(w wrongCell) bool {
			return w.cell.to == toClusterIP && w.cell.rule.internalLocal && w.cell.want.fate == "silence" && w.answer.Err == nil
		}},
		// On links without an address, as Calico's, the kernel takes the one that is most like the destination.
		{"e: IPv6 is masqueraded as a service address, since all are the node's", func(w wrongCell) bool {
			return w.cell.at.Addr().Is6() && w.sawService()
		}},
	},
}

// sawService says that an endpoint that may answer saw a service address as the source.
func (w wrongCell) sawService() bool {
	may := slices.ContainsFunc(w.cell.want.who, func(e endpoint) bool { return e.pod == w.answer.Who })
	return may && slices.ContainsFunc(lab.Services, func(n lab.Network) bool {
		return slices.ContainsFunc(n[:], func(p netip.Prefix) bool { return p.Contains(w.answer.Source.Addr()) })
	})
}

// excuse takes those of the wrong cells out that have a reason, and counts them by reasons and columns.
func (tt *truthTable) excuse(reasons []quirk) []string {
	count := map[string]tally{}
	tt.wrong = slices.DeleteFunc(tt.wrong, func(w wrongCell) bool {
		i := slices.IndexFunc(reasons, func(q quirk) bool { return q.causes(w) })
		if i < 0 {
			return false
		}
		name := reasons[i].name
		if count[name] == nil {
			count[name] = tally{}
		}
		count[name][w.cell.column()]++
		return true
	})
	var out []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		out = append(out, fmt.Sprintf("    wrong: %v (%s)", count[name], name))
	}
	return out
}
