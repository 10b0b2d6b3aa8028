package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// Flags are what the operator of the node decided, and where the node is.
type flags struct {
	node, zone    string
	addresses     string
	nodePorts     string
	serviceCIDRs  string
	clusterCIDRs  string
	podInterface  string
	families      string
	vipMode       string
	scheduler     string
	schedulers    []string
	masqueradeAll bool
	masqueradeBit int
	drainLimit    time.Duration
}

// parseFlags reads flags, one a line and without the dashes: "vip-mode=bind".
func parseFlags(text string) (flags, error) {
	var f flags
	fs := pflag.NewFlagSet("flags", pflag.ContinueOnError)
	fs.StringVar(&f.node, "node", "node1", "this node's name")
	fs.StringVar(&f.zone, "zone", "", "this node's zone")
	fs.StringVar(&f.addresses, "addresses", "192.168.0.1,fd00:192::1", "this node's addresses")
	fs.StringVar(&f.nodePorts, "nodeport-addresses", "", "ranges of those that serve node ports")
	fs.StringVar(&f.serviceCIDRs, "service-cidr", "10.96.0.0/16,fd00:96::/112", "what cluster IPs are allocated from")
	fs.StringVar(&f.clusterCIDRs, "cluster-cidr", "10.244.0.0/16,fd00:244::/48", "pods' addresses")
	fs.StringVar(&f.podInterface, "pod-interface", "", "pods' interface")
	fs.StringVar(&f.families, "families", "IPv4,IPv6", "address families of this node")
	fs.StringVar(&f.vipMode, "vip-mode", "divert", "divert or bind")
	fs.StringVar(&f.scheduler, "ipvs-scheduler", "rr", "scheduler")
	fs.StringSliceVar(&f.schedulers, "ipvs-service-schedulers", nil, "schedulers of Services")
	fs.BoolVar(&f.masqueradeAll, "masquerade-all", false, "masquerade all traffic to cluster IPs")
	fs.IntVar(&f.masqueradeBit, "iptables-masquerade-bit", 14, "bit for packets to masquerade")
	fs.DurationVar(&f.drainLimit, "drain-limit", 15*time.Minute, "how long an endpoint that is not listed may keep connections")
	var args []string
	for line := range lines(text) {
		args = append(args, "--"+line)
	}
	if err := fs.Parse(args); err != nil {
		return f, err
	}
	if fs.NArg() > 0 {
		return f, fmt.Errorf("%q is no flag", fs.Arg(0))
	}
	return f, nil
}

// list parses what stands between commas. What the author of a scenario got wrong panics.
func list[T any](text string, parse func(string) T) []T {
	var out []T
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, parse(s))
		}
	}
	return out
}

// config is the loop's configuration without the kernel.
func (f flags) config() ipvsmode.Config {
	families := list(f.families, func(s string) inet.Family {
		return map[string]inet.Family{"IPv4": inet.IPv4, "IPv6": inet.IPv6}[s]
	})
	return ipvsmode.Config{
		Families:   families,
		Marks:      ipvsmode.MarksFor(f.masqueradeBit),
		Detector:   ipvsmode.Detector{Prefixes: list(f.clusterCIDRs, netip.MustParsePrefix), Interface: f.podInterface},
		Config:     loop.Config{Plan: plan.Config{Scheduler: f.scheduler, Schedulers: f.schedulers, MasqueradeAll: f.masqueradeAll, Bind: f.vipMode == "bind"}},
		Settings:   []sysctl.Setting{{Name: forward4, Value: "1"}},
		Forwarding: map[inet.Family][]sysctl.Setting{inet.IPv6: {{Name: forward6, Value: "1"}}},
		DrainLimit: f.drainLimit,
	}
}

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// planNode is this node with these addresses of its own.
func (f flags) planNode(addresses string) plan.Node {
	n := plan.Node{Name: f.node, Zone: f.zone, Own: list(addresses, netip.MustParseAddr)}
	ranges := list(f.nodePorts, netip.MustParsePrefix)
	for _, a := range n.Own {
		in := len(ranges) == 0
		for _, r := range ranges {
			in = in || r.Contains(a)
		}
		if in {
			n.Addresses = append(n.Addresses, a)
		}
	}
	return n
}
