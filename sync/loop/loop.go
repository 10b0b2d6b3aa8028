// Package loop keeps the kernel equal to what the Services ask for. It wakes when something changed, plans what is dirty,
// converges layer by layer, and backs off from what fails. One goroutine does it all.
package loop

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// A Config is what a Loop works on and with. All of it must be set but what says otherwise.
type Config struct {
	Source Source
	Queue  *Queue

	// The kernel.
	IPVS   ipvs.Kernel
	Sets   ipset.Kernel
	VIP    vip.Kernel
	Rules  iptables.Kernel
	Sysctl sysctl.Kernel
	Flows  conntrack.Kernel

	Families   []ipset.Family // those that this node has
	Marks      plan.Marks
	Detector   plan.Detector
	Plan       plan.Config                       // its ServiceCIDRs are the source's
	Settings   []sysctl.Setting                  // kept as they are given
	Forwarding map[ipset.Family][]sysctl.Setting // kept from the first frontend of the family on
	DrainLimit time.Duration                     // how long an endpoint that is listed no more may keep its connections

	// Node returns what is known of this node, and the service CIDRs. An error means that what was known stands.
	Node func(context.Context) (plan.Node, []netip.Prefix, error)

	// Health is told what a Service's health-check node port answers, nil when it has none any more.
	Health func(plan.Name, *plan.Health)

	// Report is told what of a Service cannot be served, whenever that changes. None: all is well again.
	Report func(plan.Name, []plan.Problem)

	// Converged is told of every attempt to make the kernel equal to what is wanted: nil, or why it is not.
	Converged func(error)

	Metrics *Metrics
}

// A Loop keeps the kernel equal to what a Source asks for.
type Loop struct {
	cfg     Config
	started time.Time
	node    plan.Node

	services map[plan.Name]*service
	claims   claims
	numbers  *numbers
	tables   *tables

	settings  *delta.Table[string, string]
	layers    []layer
	members   map[string]layer // of layers, those of sets by name
	rules     []*rulesLayer    // of layers, those of rules by family
	realLayer *realsLayer      // of layers, the one of real servers
	flows     *flowsLayer      // of layers, the one of tracked flows

	read    ipvs.Table // of this turn, for the second of the two layers that it is about
	count   *Metrics
	waiting []time.Time // when the changes happened that are not programmed yet
}

// New returns a loop. Nothing is done before Run.
func New(cfg Config) *Loop {
	l := &Loop{
		cfg: cfg, services: map[plan.Name]*service{}, claims: claims{}, numbers: newNumbers(),
		tables: newTables(cfg.Marks, cfg.Families), members: map[string]layer{}, count: cfg.Metrics,
		settings: delta.New[string, string](),
	}
	l.cfg.Forwarding = maps.Clone(cfg.Forwarding)
	for _, s := range cfg.Settings {
		l.settings.Want(s.Name, s.Value)
	}
	l.layers = l.layersOf()
	return l
}

// The least and the most time until what failed is tried again.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// Run keeps the kernel in order until the context ends; what stands then is left standing. Nothing is touched before the
// queue has been told that the sources are synced.
func (l *Loop) Run(ctx context.Context) error {
	l.started = time.Now()
	l.base()
	retry := retryLeast
	var timer <-chan time.Time
	synced := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.cfg.Queue.wake:
		case <-timer:
		}
		names, what := l.cfg.Queue.take()
		if what&Synced != 0 && !synced {
			synced, what = true, what|Node|Kernel
		}
		if !synced {
			continue // what is known is not all yet; Synced looks at everything
		}
		err := l.turn(ctx, names, what)
		l.cfg.Converged(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			klog.FromContext(ctx).Error(err, "Not everything could be programmed", "retryAfter", retry)
			timer, retry = time.After(retry), min(2*retry, retryMost)
		default:
			timer, retry = l.drainAgain(), retryLeast
		}
	}
}

// turn plans what is dirty and converges.
func (l *Loop) turn(ctx context.Context, names map[plan.Name]struct{}, what Changed) error {
	for _, layer := range l.layers {
		if what&Kernel != 0 || what&Routes != 0 && layer.name() == vipsTitle {
			layer.doubt()
		}
	}
	var errs []error
	if what&(Node|Addresses) != 0 {
		errs = append(errs, l.renode(ctx, what, names))
	}
	// What the kernel holds is read before anything is planned: second lists keep the numbers that they have there.
	errs = append(errs, l.observe(ctx)...)
	for _, name := range sorted(names) {
		l.replan(name)
	}
	if what&Synced != 0 {
		l.suspectFlows()
	}
	errs = append(errs, l.converge(ctx))
	err := errors.Join(errs...)
	if err == nil {
		l.count.programmed(l.waiting)
		l.waiting = l.waiting[:0]
	}
	return err
}

// observe reads what cannot be trusted any more. Nothing is done in a layer that could not be read.
func (l *Loop) observe(ctx context.Context) []error {
	var errs []error
	for _, layer := range l.layers {
		errs = append(errs, layer.observe(ctx))
	}
	l.read = nil
	return errs
}

// renode adds the Services that depend on what changed of the node to names.
func (l *Loop) renode(ctx context.Context, what Changed, names map[plan.Name]struct{}) error {
	node, cidrs, err := l.cfg.Node(ctx)
	if err != nil {
		l.cfg.Queue.Note(what & (Node | Addresses)) // again, with the next attempt
		return err
	}
	sameAddresses := slices.Equal(node.Own, l.node.Own) && slices.Equal(node.Addresses, l.node.Addresses)
	same := node.Name == l.node.Name && node.Zone == l.node.Zone && slices.Equal(cidrs, l.cfg.Plan.ServiceCIDRs)
	l.node = node
	l.reroute(cidrs)
	switch {
	case !same || len(l.services) == 0:
		for _, name := range l.cfg.Source.Names() {
			names[name] = struct{}{}
		}
	case !sameAddresses:
		for name, s := range l.services {
			if s.fragment.UsesAddresses {
				names[name] = struct{}{}
			}
		}
	}
	return nil
}

// converge ensures layer by layer, then prunes the other way round. A layer that fails stops no other: what depends on
// an object that is missing is held back by itself.
func (l *Loop) converge(ctx context.Context) error {
	start := time.Now()
	var errs []error
	for _, layer := range l.layers {
		if !layer.unread() {
			errs = append(errs, layer.ensure(ctx))
		}
	}
	for _, layer := range slices.Backward(l.layers) {
		if !layer.unread() {
			errs = append(errs, layer.prune(ctx))
		}
	}
	l.count.synced(start, l.layers)
	return errors.Join(errs...)
}

func sorted(names map[plan.Name]struct{}) []plan.Name {
	out := make([]plan.Name, 0, len(names))
	for name := range names {
		out = append(out, name)
	}
	slices.SortFunc(out, plan.Name.Compare)
	return out
}
