package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metricsapi "k8s.io/component-base/metrics/features"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/status"
)

// A proxy holds the components of the program and their connections.
type proxy struct {
	config        *config.Config
	kernel        *ipvsmode.Connection
	families      []inet.Family
	queue         *loop.Queue
	source        source.Source
	postEvent     func(plan.Name, kube.Event)                            // posts an Event on a Service, if the source can
	postNodeEvent func(kube.Event)                                       // the same on the Node
	pods          func(context.Context, plan.Name) map[netip.Addr]string // names of a Service's pods; nil: none are known
	problems      *nodeReporter
	serving       atomic.Pointer[[]inet.Family] // the families that work, or are needed
	addresses     []netip.Addr                  // the Node's last known addresses
	state         *health.State
	ports         *health.NodePorts
	handlers      *health.Handlers
	registry      *prometheus.Registry
	metrics       *ipvsmode.Metrics
	started       time.Time
	status        *status.Server
	begun         atomic.Bool // the status server has the loop
}

// serve runs the proxy until the context ends. The kernel keeps its state.
func serve(ctx context.Context, cfg *config.Config) (err error) {
	log := klog.FromContext(ctx)
	unlock, err := lock(ctx, lockWait)
	if ctx.Err() != nil {
		log.Info("kube-ipvs stops before it began")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	kube.SetFeatures(cfg.FeatureGates)
	metricsapi.ApplyFeatureGates(cfg.Gates)
	cfg.Gates.AddMetrics()
	k, err := openKernel(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	for _, scheduler := range schedulersOf(cfg) {
		if err := probe(ctx, k.IPVS, scheduler); err != nil {
			return err
		}
	}
	p, err := newProxy(ctx, cfg, k)
	if err != nil {
		return err
	}
	log.Info("Starting kube-ipvs", "version", version, "node", p.source.Node().Name, "vipMode", cfg.VIPMode,
		"scheduler", cfg.IPVS.Scheduler, "iptables", k.Rules.Backend())
	err = p.run(ctx)
	if ctx.Err() != nil {
		log.Info("Stopping kube-ipvs; the state of the kernel stays")
		return nil
	}
	return err
}

func newProxy(ctx context.Context, cfg *config.Config, k *ipvsmode.Connection) (*proxy, error) {
	p := &proxy{
		config: cfg, kernel: k, families: families(ctx, cfg.ProcSys), queue: loop.NewQueue(),
		state: health.NewState(2 * cfg.IPVS.SyncPeriod), registry: prometheus.NewRegistry(), started: time.Now(),
	}
	p.serving.Store(&p.families)
	p.queue.Queued = func() {
		p.state.Queued()
		p.metrics.Queued()
	}
	if err := p.newSource(klog.FromContext(ctx)); err != nil {
		return nil, err
	}
	p.handlers = &health.Handlers{
		State: p.state, Families: p.familyNames,
		Eligible: func() bool { return p.source.Node().Eligible },
		Alone:    func() bool { return !p.problems.concern(ipvsmode.KubeProxy) },
	}
	p.registerMetrics(p.registry)
	return p, nil
}

// registerMetrics registers all metrics but the source's: from the start, also while the loop waits. They are listed in
// docs/metrics.md.
func (p *proxy) registerMetrics(r prometheus.Registerer) {
	p.metrics = ipvsmode.NewMetrics(r, loop.MetricsConfig{Families: p.families, Native: p.config.Enabled(config.NativeHistograms)})
	p.queue.Register(r)
	var counters ipvsmode.CountingTable
	var settings sysctl.Kernel
	if p.kernel != nil {
		counters, settings = p.kernel.Counters, p.kernel.Sysctl
	}
	p.metrics.CountTraffic(r, counters, settings, p.config.TrafficSeries)
	p.handlers.Register(r)
	registerNodeMetrics(r, p.config.ProcSys)
	r.MustRegister(p.problems.count, kubernetesBuildInfo())
}

// newSource opens the source, restricted by the feature gates.
func (p *proxy) newSource(log logr.Logger) error {
	if err := p.openSource(log); err != nil {
		return err
	}
	if !p.config.Enabled(config.AllowServiceExternalIPs) {
		p.source = noExternalIPs{p.source}
	}
	return nil
}

// openSource opens the directory of manifests, or the API server.
func (p *proxy) openSource(log logr.Logger) error {
	cfg := p.config
	name, err := nodeName(cfg.Hostname)
	if err != nil {
		return err
	}
	if cfg.Manifests != "" {
		p.source = manifest.New(cfg.Manifests, name, p.queue, logProblems(log))
		p.postEvent, p.postNodeEvent = func(plan.Name, kube.Event) {}, func(kube.Event) {}
		p.problems = newNodeReporter(log, func(kube.Event) {})
		return nil
	}
	connection := connectionTo(cfg)
	client, err := connection.Client()
	if err != nil {
		return fmt.Errorf("%w (set --kubeconfig, or --manifests to run without a cluster)", err)
	}
	events, err := connection.Events()
	if err != nil {
		return err
	}
	src := kube.New(kube.Config{
		Client: client, Events: events, NodeName: name, NodeWait: 30 * time.Second, WaitLogInterval: 10 * time.Second,
		Problems: logProblems(log),
	}, p.queue)
	src.Register(p.registry)
	p.source, p.postEvent, p.postNodeEvent, p.pods = src, src.PostEvent, src.PostNodeEvent, src.Pods
	p.problems = newNodeReporter(log, src.PostNodeEvent)
	return nil
}

// run runs all components until the context ends or one fails.
func (p *proxy) run(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	log := klog.FromContext(ctx)
	changed := func(c loop.Changed) func() { return func() { p.queue.Note(c) } }

	p.postNodeEvent(kube.Event{Type: corev1.EventTypeNormal, Reason: "Starting", Action: starting, Repeats: true})
	parts.Go(func() error { return config.Watch(ctx, p.config, p.reportConfig) })
	free := make(chan struct{})
	parts.Go(func() error { defer close(free); p.awaitKubeProxy(ctx); return nil })

	// The desired state.
	parts.Go(func() error { return p.source.Run(ctx) })
	parts.Go(func() error { return node.Watch(ctx, changed(loop.Addresses)) })

	// The actual state.
	parts.Go(func() error { return p.kernel.Steering.Watch(ctx, changed(loop.Routes)) })

	// HTTP.
	own, err := node.Addresses(ctx)
	if err != nil {
		return fmt.Errorf("this node's addresses: %w", err)
	}
	p.keepAddresses(p.source.Node())
	p.ports = health.NewNodePorts(p.state, p.healthAddresses(own), func(name plan.Name, err error) {
		log.Error(err, "Cannot serve a health-check node port", "service", name)
		p.postEvent(name, kube.Event{Type: corev1.EventTypeWarning, Reason: noHealthCheck, Note: err.Error(), NodeLocal: true})
	})
	parts.Go(func() error { return p.ports.Run(ctx) })
	parts.Go(whenFree(ctx, free, func() error {
		return listen(ctx, p.config.Healthz, p.config.BindHardFail, p.handlers.Mux(), p.unbound("FailedToStartProxierHealthcheck"))
	}))
	p.status = p.newStatus()
	answers := http.NewServeMux()
	p.status.Register(answers)
	if p.config.Socket != "" {
		parts.Go(func() error { return p.serveStatus(ctx, answers) })
	}
	parts.Go(whenFree(ctx, free, func() error {
		return listen(ctx, p.config.Metrics, p.config.BindHardFail, metricsMux(p.config, p.registry, p.browser(answers)), p.unbound("FailedToStartMetricServer"))
	}))

	// The loop between them.
	parts.Go(whenFree(ctx, free, func() error {
		if err := p.kernel.IPVS.SetTimeouts(ctx, timeouts(p.config)); err != nil {
			return err
		}
		tune(ctx, p.config, p.kernel.Sysctl)
		podCIDRs, err := p.podCIDRs(ctx)
		if err != nil {
			return err
		}
		if podCIDRs != nil {
			parts.Go(func() error { return keepPodCIDRs(ctx, podCIDRs, p.nodesPodCIDRs) })
		}
		cfg, err := p.loopConfig(ctx, podCIDRs)
		if err != nil {
			return err
		}
		l := ipvsmode.New(cfg)
		p.begin(l)
		return l.Run(ctx)
	}))
	return parts.Wait()
}

// starting is the action of kube-proxy's Events on its start.
const starting = "StartKubeProxy"

// unbound returns a function that posts an Event, with kube-proxy's reason, for a server that cannot be started.
func (p *proxy) unbound(reason string) func(error) {
	return func(err error) {
		p.postNodeEvent(kube.Event{Type: corev1.EventTypeWarning, Reason: reason, Action: starting, Note: err.Error()})
	}
}

// loopConfig returns the loop's configuration. Its rules may depend on the Node's pod ranges.
func (p *proxy) loopConfig(ctx context.Context, podCIDRs []netip.Prefix) (ipvsmode.Config, error) {
	cfg := p.config
	detector := detector(cfg.DetectLocal, podCIDRs)
	randomly, err := p.kernel.Rules.HasRandomFully()
	if err != nil {
		return ipvsmode.Config{}, err
	}
	if !detector.Detects(true) && !detector.Detects(false) {
		klog.FromContext(ctx).Info("Cannot tell pods from other sources: traffic to cluster IPs is not masqueraded, and Local policies apply to pods too; set --cluster-cidr")
	}
	reports := newReporter(klog.FromContext(ctx), p.postEvent)
	return ipvsmode.Config{
		Config: loop.Config{
			Source: p.source, Queue: p.queue,
			Plan:         plan.Config{Scheduler: cfg.IPVS.Scheduler, Schedulers: cfg.IPVS.Schedulers, MasqueradeAll: cfg.Masquerade.All, Bind: cfg.VIPMode == config.Bind},
			LookInterval: loop.LookInterval,
			Node:         p.refreshNode,
			Health:       p.ports.Set,
			Report:       reports.report,
			Converged:    p.converged,
			Beat:         p.state.Beat,
		},
		Kernel: p.kernel.Kernel(), Families: p.families,
		Marks: ipvsmode.MarksFor(cfg.Masquerade.Bit), Detector: detector, PredictablePorts: !randomly,
		Settings:   possibleSettings(ctx, cfg, p.kernel.Sysctl),
		Forwarding: map[inet.Family][]sysctl.Setting{inet.IPv6: {{Name: forwardIPv6, Value: "1"}}},
		DrainLimit: cfg.DrainLimit, Exclude: cfg.IPVS.ExcludeCIDRs,
		InUse:   func(context.Context) (map[netip.Addr]struct{}, error) { return node.SocketAddresses("/proc/net") },
		Metrics: p.metrics,

		NodeProblems: func(problems []plan.Problem) { p.problems.report("loop", problems) },
		Serves:       func(f []inet.Family) { p.serving.Store(&f) },
		Withhold:     p.withhold,
	}, nil
}

// converged notes the result of a sync. Single objects that the kernel refuses appear in metrics and the log, and do not
// make the proxy unhealthy.
func (p *proxy) converged(err error) {
	if errors.Is(err, loop.ErrObjects) {
		err = nil
	}
	p.state.Converged(err)
}

// refreshNode reads this node anew, applies it to all that depends on it, and returns the plan's view of it with the
// service CIDRs. It is called by one goroutine at a time.
func (p *proxy) refreshNode(ctx context.Context) (plan.Node, []netip.Prefix, error) {
	own, err := node.Addresses(ctx)
	if err != nil {
		return plan.Node{}, nil, fmt.Errorf("this node's addresses: %w", err)
	}
	n := p.source.Node()
	p.keepAddresses(n)
	p.ports.SetAddresses(p.healthAddresses(own))
	p.problems.report("bridge", p.bridgeProblems(ctx, n))
	return plan.Node{Name: n.Name, Zone: n.Zone, Own: own, Addresses: p.nodePortAddresses(own), Primary: p.addresses}, p.source.ServiceCIDRs(), nil
}

// keepAddresses keeps the addresses of the Node object. An object that is missing, or has none for a moment, changes nothing.
func (p *proxy) keepAddresses(n object.Node) {
	if len(n.Addresses) > 0 {
		p.addresses = n.Addresses
	}
}

// nodePortAddresses returns those of the node's own addresses that serve node ports.
func (p *proxy) nodePortAddresses(own []netip.Addr) []netip.Addr {
	return p.config.NodePorts.Select(own, config.NodeIPs(p.config.BindAddress, p.addresses))
}

// healthAddresses returns the addresses of health-check node ports: nil, which means all, unless --nodeport-addresses
// restricts them, possibly to none.
func (p *proxy) healthAddresses(own []netip.Addr) []netip.Addr {
	if p.config.NodePorts.Everywhere() {
		return nil
	}
	return p.nodePortAddresses(own)
}

func (p *proxy) familyNames() []string {
	var out []string
	for _, f := range *p.serving.Load() {
		out = append(out, f.String())
	}
	return out
}
