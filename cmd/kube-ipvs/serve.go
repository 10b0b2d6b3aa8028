package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/node"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// A source is an API server or a folder.
type source interface {
	loop.Source
	Run(context.Context) error
	Node() object.Node
	ServiceCIDRs() []netip.Prefix
	Problems() []plan.Problem
}

// A proxy is all the parts that run, wired.
type proxy struct {
	config    *config.Config
	kernel    *kernel
	families  []ipset.Family
	queue     *loop.Queue
	sink      *sink
	source    source
	notify    func(plan.Name, kube.Notice) // tells the users of a Service, where the source can
	problems  *nodeReporter
	serving   atomic.Pointer[[]ipset.Family] // the families that work, or are needed
	addresses []netip.Addr                   // the Node's own addresses, as they were last known
	state     *health.State
	ports     *health.NodePorts
	registry  *prometheus.Registry
	metrics   *loop.Metrics
}

// serve runs the proxy until the context ends. The data plane is left standing.
func serve(ctx context.Context, cfg *config.Config) (err error) {
	log := klog.FromContext(ctx)
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	kube.SetFeatures(cfg.FeatureGates)
	k, err := openKernel(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := probe(ctx, k.ipvs, cfg.IPVS.Scheduler); err != nil {
		return err
	}
	if err := k.ipvs.SetTimeouts(ctx, timeouts(cfg)); err != nil {
		return err
	}
	tune(ctx, cfg, k.settings)
	p, err := newProxy(ctx, cfg, k)
	if err != nil {
		return err
	}
	log.Info("kube-ipvs starts", "version", version, "node", p.source.Node().Name, "vipMode", cfg.VIPMode,
		"scheduler", cfg.IPVS.Scheduler, "iptables", k.rules.Variant())
	err = p.run(ctx)
	if ctx.Err() != nil {
		log.Info("kube-ipvs stops; what is programmed stays")
		return nil
	}
	return err
}

func newProxy(ctx context.Context, cfg *config.Config, k *kernel) (*proxy, error) {
	p := &proxy{
		config: cfg, kernel: k, families: families(cfg.ProcSys), queue: loop.NewQueue(),
		state: health.NewState(2 * cfg.IPVS.SyncPeriod), registry: prometheus.NewRegistry(),
	}
	p.serving.Store(&p.families)
	p.queue.Queued = p.state.Queued
	p.sink = &sink{Queue: p.queue, log: klog.FromContext(ctx)}
	if err := p.newSource(); err != nil {
		return nil, err
	}
	p.sink.problems = p.source.Problems
	p.registry.MustRegister(p.problems.count)
	p.metrics = loop.NewMetrics(p.registry) // all of them from the start, also while the loop waits
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p, nil
}

// newSource opens the folder, or the API server.
func (p *proxy) newSource() error {
	if err := p.openSource(); err != nil {
		return err
	}
	if !p.config.Enabled(config.AllowServiceExternalIPs) {
		p.source = noExternalIPs{p.source}
	}
	return nil
}

func (p *proxy) openSource() error {
	cfg := p.config
	name, err := nodeName(cfg.Hostname)
	if err != nil {
		return err
	}
	if cfg.Manifests != "" {
		p.source = manifest.New(cfg.Manifests, name, p.sink)
		p.notify = func(plan.Name, kube.Notice) {}
		p.problems = newNodeReporter(p.sink.log, func(kube.Notice) {})
		return nil
	}
	connection := kube.Connection{
		Kubeconfig: cfg.API.Kubeconfig, Master: cfg.API.Master, QPS: cfg.API.QPS, Burst: cfg.API.Burst,
		ContentType: cfg.API.ContentType, Accept: cfg.API.AcceptContentTypes, Version: version,
	}
	client, err := connection.Client()
	if err != nil {
		return fmt.Errorf("%w (give --kubeconfig, or --manifests to run without a cluster)", err)
	}
	events, err := connection.Events()
	if err != nil {
		return err
	}
	s := kube.New(kube.Config{
		Client: client, Events: events, NodeName: name, NodeWait: 30 * time.Second, Patience: 10 * time.Second,
	}, p.sink)
	s.Register(p.registry)
	p.source, p.notify = s, s.Notify
	p.problems = newNodeReporter(p.sink.log, s.NotifyNode)
	return nil
}

// run runs all parts until the context ends or one fails.
func (p *proxy) run(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	log := klog.FromContext(ctx)
	changed := func(what loop.Changed) func() { return func() { p.queue.Note(what) } }

	parts.Go(func() error { return config.Watch(ctx, p.config) })

	// What is wanted.
	parts.Go(func() error { return p.source.Run(ctx) })
	parts.Go(func() error { return node.Watch(ctx, changed(loop.Addresses)) })

	// What is there.
	parts.Go(func() error { return p.kernel.vips.Watch(ctx, changed(loop.Routes)) })

	// Answers.
	own, err := node.Addresses(ctx)
	if err != nil {
		return fmt.Errorf("this node's addresses: %w", err)
	}
	p.ports = health.NewNodePorts(p.state, p.healthAddresses(own), func(name plan.Name, err error) {
		log.Error(err, "A health-check node port cannot be served", "service", name)
		p.notify(name, kube.Notice{Type: corev1.EventTypeWarning, Reason: noHealthCheck, Note: err.Error(), Here: true})
	})
	parts.Go(func() error { return p.ports.Run(ctx) })
	answers := &health.Answers{State: p.state, Families: p.familyNames, Eligible: func() bool { return p.source.Node().Eligible }}
	answers.Register(p.registry)
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	metrics.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, p.config.Mode) })
	metrics.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	if p.config.Profiling {
		profile(metrics)
	}
	parts.Go(func() error { return listen(ctx, p.config.Healthz, p.config.BindHardFail, answers.Mux()) })
	parts.Go(func() error { return listen(ctx, p.config.Metrics, p.config.BindHardFail, metrics) })

	// The loop between them.
	parts.Go(func() error {
		var podCIDRs []netip.Prefix
		if p.config.DetectLocal.Mode == config.NodeCIDR {
			get := func() []netip.Prefix { return p.source.Node().PodCIDRs }
			found, err := awaitPodCIDRs(ctx, get)
			if err != nil {
				return err
			}
			podCIDRs = found
			parts.Go(func() error { return keepPodCIDRs(ctx, found, get) })
		}
		cfg, err := p.loopConfig(ctx, podCIDRs)
		if err != nil {
			return err
		}
		return loop.New(cfg).Run(ctx)
	})
	return parts.Wait()
}

// loopConfig returns what the loop needs. The rules depend on the Node's pod ranges, if at all.
func (p *proxy) loopConfig(ctx context.Context, podCIDRs []netip.Prefix) (loop.Config, error) {
	cfg := p.config
	detector := detector(cfg.DetectLocal, podCIDRs)
	randomly, err := p.kernel.rules.HasRandomFully()
	if err != nil {
		return loop.Config{}, err
	}
	if !detector.Detects(true) && !detector.Detects(false) {
		klog.FromContext(ctx).Info("No pod can be told from other sources: cluster-IP traffic is not masqueraded, and Local policies hold for pods too. Give --cluster-cidr")
	}
	reports := newReporter(klog.FromContext(ctx), p.notify)
	return p.kernel.config(loop.Config{
		Source: p.source, Queue: p.queue, Families: p.families,
		Marks: plan.MarksFor(cfg.Masquerade.Bit), Detector: detector, PredictablePorts: !randomly,
		Plan:         plan.Config{Scheduler: cfg.IPVS.Scheduler, MasqueradeAll: cfg.Masquerade.All, Bind: cfg.VIPMode == config.Bind},
		Settings:     keptSettings(cfg),
		Forwarding:   map[ipset.Family][]sysctl.Setting{ipset.IPv6: {{Name: "net/ipv6/conf/all/forwarding", Value: "1"}}},
		LookInterval: loop.LookInterval, DrainLimit: cfg.DrainLimit,
		Node:      p.node,
		Health:    p.ports.Set,
		Report:    reports.report,
		Converged: p.converged,
		Metrics:   p.metrics,

		NodeProblems: func(problems []plan.Problem) { p.problems.report("loop", problems) },
		Serves:       func(f []ipset.Family) { p.serving.Store(&f) },
		Spare:        p.spare,
		Beat:         p.state.Beat,
	}), nil
}

// converged notes how an attempt ended. Of single objects that are not as wanted metrics and the log tell.
func (p *proxy) converged(err error) {
	if errors.Is(err, loop.ErrObjects) {
		err = nil
	}
	p.state.Converged(err)
}

// node returns what the plan needs to know of this node.
func (p *proxy) node(ctx context.Context) (plan.Node, []netip.Prefix, error) {
	own, err := node.Addresses(ctx)
	if err != nil {
		return plan.Node{}, nil, fmt.Errorf("this node's addresses: %w", err)
	}
	n := p.source.Node()
	p.problems.report("bridge", p.bridgeProblems(ctx, n))
	p.ports.Listen(p.healthAddresses(own))
	return plan.Node{Name: n.Name, Zone: n.Zone, Own: own, Addresses: p.nodePortAddresses(own), Primary: n.Addresses}, p.source.ServiceCIDRs(), nil
}

// nodePortAddresses returns those of the node's addresses that serve node ports. A Node object that is away, or has no
// addresses for a moment, says nothing: what was known of it stands. It is called by one goroutine at a time.
func (p *proxy) nodePortAddresses(own []netip.Addr) []netip.Addr {
	if now := p.source.Node().Addresses; len(now) > 0 {
		p.addresses = now
	}
	return p.config.NodePorts.Select(own, config.NodeIPs(p.config.BindAddress, p.addresses))
}

// healthAddresses returns where health-check node ports listen: everywhere, which is nil, unless --nodeport-addresses says
// otherwise. Then it may be nowhere.
func (p *proxy) healthAddresses(own []netip.Addr) []netip.Addr {
	if p.config.NodePorts.Everywhere() {
		return nil
	}
	return p.nodePortAddresses(own)
}

func (p *proxy) familyNames() []string {
	var out []string
	for _, f := range *p.serving.Load() {
		out = append(out, map[ipset.Family]string{ipset.IPv4: "IPv4", ipset.IPv6: "IPv6"}[f])
	}
	return out
}
