package wire

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
)

// PodCIDRs are where pods are in all laboratories, for --cluster-cidr.
var PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}

// A Kernel is the running kernel's tables, open.
type Kernel struct {
	IPVS  *ipvs.Conn
	Sets  *ipset.Conn
	VIP   *vip.Conn
	Flows *conntrack.Conn
	Rules *iptables.Programs

	Settings *sysctl.Files
}

// Open opens the running kernel's tables, in this network namespace. After an error the test is over, and nothing is to be
// closed.
func Open(ctx context.Context) (k Kernel, err error) {
	var errs [5]error
	k.Settings = new(sysctl.Files)
	k.IPVS, errs[0] = ipvs.Open()
	k.Sets, errs[1] = ipset.Open()
	k.VIP, errs[2] = vip.Open()
	k.Flows, errs[3] = conntrack.Open()
	k.Rules, errs[4] = iptables.Open(ctx)
	return k, errors.Join(errs[:]...)
}

// Close closes them.
func (k Kernel) Close() error {
	return errors.Join(k.IPVS.Close(), k.Sets.Close(), k.VIP.Close(), k.Flows.Close(), k.Rules.Close(), k.Settings.Close())
}

// Config wires a loop on the kernel as the program does without flags, for a test to change. It leaves conn_reuse_mode to the
// kernel, whose default is the program's, and looks at what the kernel tells nobody about only when it is told to. Node is the
// test's to say; nobody is told anything.
func (k Kernel) Config(source *Memory) loop.Config {
	return loop.Config{
		Source: source, Queue: source.Queue,
		IPVS: k.IPVS, Sets: k.Sets, VIP: k.VIP, Flows: k.Flows, Rules: k.Rules, Sysctl: k.Settings,
		Families: []inet.Family{inet.IPv4, inet.IPv6}, Marks: ipvsmode.MarksFor(14), Plan: plan.Config{Scheduler: "rr"},
		Detector: ipvsmode.Detector{Prefixes: PodCIDRs},
		Settings: []sysctl.Setting{
			{Name: "net/ipv4/ip_forward", Value: "1"}, {Name: "net/ipv4/vs/conntrack", Value: "1"},
			{Name: "net/ipv4/vs/expire_nodest_conn", Value: "1"}, {Name: "net/ipv4/vs/expire_quiescent_template", Value: "1"},
		},
		Forwarding: map[inet.Family][]sysctl.Setting{inet.IPv6: {{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}},
		DrainLimit: time.Minute,
		Metrics:    loop.NewMetrics(prometheus.NewRegistry()),
		Health:     func(plan.Name, *plan.Health) {},
		Report:     func(plan.Name, []plan.Problem) {},
		Converged:  func(error) {},
	}
}

// Watch tells the queue what others change in the kernel, until the context ends.
func (k Kernel) Watch(ctx context.Context, queue *loop.Queue) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return node.Watch(ctx, func() { queue.Note(loop.Addresses) }) })
	parts.Go(func() error { return k.VIP.Watch(ctx, func() { queue.Note(loop.Routes) }) })
	return parts.Wait()
}
