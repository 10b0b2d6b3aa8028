package wire

import (
	"context"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/plan"
)

// PodCIDRs are where pods are in all laboratories, for --cluster-cidr.
var PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}

// A Kernel is the running kernel's tables, open.
type Kernel struct{ *ipvsmode.Connection }

// Open opens the running kernel's tables, in this network namespace. After an error the test is over.
func Open(ctx context.Context) (Kernel, error) {
	c, err := ipvsmode.Open(ctx, "")
	return Kernel{c}, err
}

// Config wires a loop on the kernel as the program does without flags, for a test to change. It looks at what the kernel tells nobody about only when it is told to. Node is the
// test's to say; nobody is told anything.
func (k Kernel) Config(source *Memory) ipvsmode.Config {
	return ipvsmode.Config{
		Config: loop.Config{
			Source: source, Queue: source.Queue, Plan: plan.Config{Scheduler: "rr"},
			Health:    func(plan.Name, *plan.Health) {},
			Report:    func(plan.Name, []plan.Problem) {},
			Converged: func(error) {},
		},
		Kernel:   k.Kernel(),
		Families: []inet.Family{inet.IPv4, inet.IPv6}, Marks: ipvsmode.MarksFor(14),
		Detector:   ipvsmode.Detector{Prefixes: PodCIDRs},
		Settings:   ipvsmode.DefaultSettings(ipvsmode.Release()),
		Forwarding: map[inet.Family][]sysctl.Setting{inet.IPv6: {{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}},
		DrainLimit: time.Minute,
		Metrics:    ipvsmode.NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{}),
	}
}

// Watch tells the queue what others change in the kernel, until the context ends.
func (k Kernel) Watch(ctx context.Context, queue *loop.Queue) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return node.Watch(ctx, func() { queue.Note(loop.Addresses) }) })
	parts.Go(func() error { return k.Steering.Watch(ctx, func() { queue.Note(loop.Routes) }) })
	return parts.Wait()
}
