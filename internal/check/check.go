// Package check examines a node before kube-ipvs is installed, and after: its needs, and the agents that it would meet. A check
// looks, which reads facts, and judges, which is pure: facts in, findings out. Nothing is changed.
package check

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"kube-ipvs/ipvs/sysctl"
)

// A Severity grades a finding.
type Severity string

// The severities, from the best to the worst. An Unknown one could not be examined.
const (
	OK      Severity = "ok"
	Note    Severity = "note"    // works; somebody may want to know
	Warning Severity = "warning" // may cost some packets, or will fail later
	Error   Severity = "error"   // kube-ipvs cannot start, or cannot serve
	Unknown Severity = "unknown"
)

// A Finding is the result of a check. A check may have several.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Found    string   `json:"found"`
	Do       string   `json:"do,omitempty"` // to make it ok
}

// Wanted is the configuration of kube-ipvs, as far as checks compare a node with it.
type Wanted struct {
	Modules   []string
	Settings  []sysctl.Setting
	Bits      uint32 // of the firewall mark
	Ports     []Port
	API       string // URL of the API server, or empty without a cluster
	NoAPI     error  // why the URL is not known
	InCluster bool   // the URL is from the environment of a pod
	PodBridge string // name of the pods' bridge, if it is configured
	PodRanges []netip.Prefix
}

// A Port is one on which kube-ipvs listens.
type Port struct {
	For string
	At  netip.AddrPort
}

// orOK puts a finding of severity OK first, unless there are others than notes.
func orOK(out []Finding, found string) []Finding {
	if slices.ContainsFunc(out, func(f Finding) bool { return f.Severity != Note }) {
		return out
	}
	return append([]Finding{{Severity: OK, Found: found}}, out...)
}

// A check examines one subject.
type check struct {
	name string
	run  func(context.Context, *Node, Wanted) ([]Finding, error)
}

// of returns a check that looks and then judges.
func of[F any](name string, look func(context.Context, *Node, Wanted) (F, error), judge func(F, Wanted) []Finding) check {
	return check{name, func(ctx context.Context, n *Node, w Wanted) ([]Finding, error) {
		facts, err := look(ctx, n, w)
		if err != nil {
			return nil, err
		}
		return judge(facts, w), nil
	}}
}

// checks are all checks in the order of their findings.
var checks = []check{
	of("kernel", lookKernel, judgeKernel),
	of("modules", lookModules, judgeModules),
	of("capabilities", lookCapabilities, judgeCapabilities),
	of("settings", lookSettings, judgeSettings),
	of("estimation", lookEstimation, judgeEstimation),
	of("iptables", lookBackends, judgeBackends),
	of("proxies", lookProxies, judgeProxies),
	of("marks", lookMarks, judgeMarks),
	of("routing", lookRouting, judgeRouting),
	of("ports", lookPorts, judgePorts),
	of("bridge", lookBridge, judgeBridge),
	of("conntrack", lookConntrack, judgeConntrack),
	of("connections", lookConnections, judgeConnections),
	of("api-server", lookAPI, judgeAPI),
	of("time", lookTime, judgeTime),
}

// Names returns the names of all checks in their order.
func Names() []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.name)
	}
	return out
}

// Run examines a node. A check that fails is a finding of severity Unknown.
func Run(ctx context.Context, n *Node, w Wanted) []Finding {
	var out []Finding
	for _, c := range checks {
		found, err := c.run(ctx, n, w)
		if err != nil {
			found = []Finding{{Severity: Unknown, Found: fmt.Sprintf("cannot be examined: %v", err)}}
		}
		for _, f := range found {
			f.Check = c.name
			out = append(out, f)
		}
	}
	return out
}

// Status returns the exit status for scripts: 1 if there is an error, or else 2 if something could not be examined, or else 0.
func Status(found []Finding) int {
	status := 0
	for _, f := range found {
		switch f.Severity {
		case Error:
			return 1
		case Unknown:
			status = 2
		}
	}
	return status
}
