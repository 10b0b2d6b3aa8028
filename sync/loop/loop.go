// Package loop keeps the kernel equal to what the Services ask for. It wakes when something changed, plans what is dirty,
// converges layer by layer, and backs off from what fails. One goroutine does it all, but for the programs of iptables, which
// it does not wait for.
package loop

import (
	"context"
	"maps"
	"net/netip"
	"sync"
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

	Families         []ipset.Family // those that this node has
	Marks            plan.Marks
	Detector         plan.Detector
	PredictablePorts bool                              // iptables is too old for --random-fully
	Plan             plan.Config                       // its ServiceCIDRs are the source's
	Settings         []sysctl.Setting                  // kept as they are given
	Forwarding       map[ipset.Family][]sysctl.Setting // kept from the first frontend of the family on
	// LookInterval is how often to look at what the kernel tells nobody about; 0: never.
	LookInterval time.Duration
	DrainLimit   time.Duration // how long an endpoint that is listed no more may keep its connections

	// Node returns what is known of this node, and the service CIDRs. An error means that what was known stands.
	Node func(context.Context) (plan.Node, []netip.Prefix, error)

	// Health is told what a Service's health-check node port answers, nil when it has none any more.
	Health func(plan.Name, *plan.Health)

	// Report is told what of a Service cannot be served, with notes on what is served all the same, whenever that changes.
	// None: all is well again, or the Service is gone.
	Report func(plan.Name, []plan.Problem)

	// Converged is told of the end of every attempt to make the kernel equal to what is wanted: nil, or why it is not,
	// which is ErrObjects where that concerns single objects alone. An attempt lasts as long as rules are being made,
	// whatever else is programmed meanwhile.
	Converged func(error)

	// NodeProblems is told what about this node keeps Services from being served, whenever that changes. Nil: nobody
	// is told, as with those that follow.
	NodeProblems func([]plan.Problem)

	// Serves is told which of the families work, or are needed, whenever that changes.
	Serves func([]ipset.Family)

	// Spare returns why a setting of Forwarding must be left as it is for now, or nil.
	Spare func(context.Context, sysctl.Setting) error

	// Beat is called again and again as long as the loop is not stuck, also while a turn takes long.
	Beat func()

	Metrics *Metrics
}

// LookInterval is how often the program looks: what it sees is mended within a second.
const LookInterval = 500 * time.Millisecond

// A Loop keeps the kernel equal to what a Source asks for.
type Loop struct {
	cfg     Config
	started time.Time
	node    plan.Node

	services map[plan.Name]*service
	claims   claims
	moved    map[ipvs.Key]struct{} // frontends that another Service got since Services were reviewed
	tables   *tables
	foreign  foreign

	settings     *delta.Table[string, string]
	layers       []layer
	settingLayer *tableLayer[string, string, sysctl.Setting]                // of layers, the one of kernel settings
	setLayer     *tableLayer[string, struct{}, setOp]                       // of layers, the one of the sets themselves
	members      map[string]*tableLayer[ipset.Member, ipset.Mark, ipset.Op] // of layers, those of sets by name
	rules        []*rulesLayer                                              // of layers, those of rules by family
	routes       *tableLayer[vip.Item, netip.Addr, vip.Op]                  // of layers, the one of the link and routes
	addresses    *tableLayer[vip.Item, netip.Addr, vip.Op]                  // of layers, the one of addresses on the link
	serverLayer  *tableLayer[ipvs.Key, ipvs.Server, ipvs.Op]                // of layers, the one of virtual servers
	realLayer    *realsLayer                                                // of layers, the one of real servers
	flows        *flowsLayer                                                // of layers, the one of tracked flows

	jobs      sync.WaitGroup         // what is under way in the background
	attempt   time.Time              // when the attempt began that has not ended yet, or zero
	dirty     map[plan.Name]struct{} // Services that are to be planned again
	what      Changed                // what else changed and was not looked at yet; Synced stays
	located   bool                   // the node is known
	begun     bool                   // planning has begun
	made      int                    // IPv4 virtual servers that were made, without those that were removed
	read      ipvs.Table             // of this turn, for the second of the two layers that it is about
	readItems vip.Items              // the same of the routing
	fitness   map[ipset.Family]*fitness
	spared    map[string]error // settings that are left as they are, and why
	unfit     []plan.Problem   // the node's
	count     *Metrics
	waiting   map[plan.Name][]time.Time // when the changes happened that are not programmed yet
}

// New returns a loop. Nothing is done before Run.
func New(cfg Config) *Loop {
	l := &Loop{
		cfg: cfg, services: map[plan.Name]*service{}, claims: claims{}, moved: map[ipvs.Key]struct{}{}, foreign: newForeign(),
		tables: newTables(cfg.Marks, cfg.Families), count: cfg.Metrics, settings: delta.New[string, string](),
		members: map[string]*tableLayer[ipset.Member, ipset.Mark, ipset.Op]{},
		dirty:   map[plan.Name]struct{}{}, waiting: map[plan.Name][]time.Time{}, fitness: map[ipset.Family]*fitness{},
	}
	l.cfg.Forwarding = maps.Clone(cfg.Forwarding)
	l.cfg.optional()
	l.count.beat = l.cfg.Beat
	for _, f := range cfg.Families {
		l.fitness[f] = &fitness{}
	}
	for _, s := range cfg.Settings {
		l.settings.Want(s.Name, s.Value)
	}
	l.layers = l.layersOf()
	return l
}

// optional fills in what need not be set.
func (c *Config) optional() {
	if c.NodeProblems == nil {
		c.NodeProblems = func([]plan.Problem) {}
	}
	if c.Serves == nil {
		c.Serves = func([]ipset.Family) {}
	}
	if c.Spare == nil {
		c.Spare = func(context.Context, sysctl.Setting) error { return nil }
	}
	if c.Beat == nil {
		c.Beat = func() {}
	}
}

// Run keeps the kernel in order until the context ends; what stands then is left standing. Nothing is touched before the
// queue has been told that the sources are synced.
func (l *Loop) Run(ctx context.Context) error {
	defer l.jobs.Wait()
	l.started = time.Now()
	l.base()
	retry := backoff{next: retryLeast}
	var drain, later <-chan time.Time
	out := lookout{Loop: l}
	ticks, stop := l.ticks()
	defer stop()
	for {
		l.cfg.Beat()
		again := false
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if !l.begun || !out.look(ctx) {
				continue
			}
		case <-l.cfg.Queue.wake:
		case <-retry.timer:
			retry.timer, again = nil, true
		case <-drain:
			drain, l.realLayer.look = nil, true
		case <-later:
			later, again = nil, true
		}
		if !l.take() {
			continue // what is known is not all yet; Synced looks at everything
		}
		l.cfg.Queue.waits() // also what came during the turn before, which said at its end that all is well
		err := l.turn(ctx, again)
		ended := !l.unsettled()
		if ended {
			l.cfg.Converged(err)
		} else {
			l.cfg.Queue.waits()
		}
		if ctx.Err() != nil {
			return nil
		}
		if ended || err != nil { // that nothing failed so far says nothing of what goes on
			retry.note(ctx, err)
		}
		if drain == nil && len(l.realLayer.draining) > 0 {
			drain = time.After(drainInterval)
		}
		if later == nil && l.putOff() {
			later = time.After(putOffInterval)
		}
	}
}

// ticks returns the times to look at what the kernel tells nobody about.
func (l *Loop) ticks() (ticks <-chan time.Time, stop func()) {
	if l.cfg.LookInterval == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(l.cfg.LookInterval)
	return t.C, t.Stop
}

// take takes what changed from the queue, and says whether the sources are synced.
func (l *Loop) take() bool {
	was := l.what
	names, what := l.cfg.Queue.take()
	if len(l.dirty) == 0 {
		l.dirty = names
	} else {
		maps.Copy(l.dirty, names)
	}
	l.what |= what
	if l.what&^was&Synced != 0 {
		l.what |= Node
	}
	return l.what&Synced != 0
}

// A backoff says when what failed is due again: what changes meanwhile neither waits for that nor puts it off.
type backoff struct {
	timer <-chan time.Time // nil: not waiting
	next  time.Duration
	said  string    // what was logged last
	at    time.Time // and when
}

// The least and the most time until what failed is tried again.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// remindInterval is how often the same failure is logged.
const remindInterval = 10 * time.Minute

func (b *backoff) note(ctx context.Context, err error) {
	switch {
	case err == nil:
		*b = backoff{next: retryLeast}
	case b.timer == nil:
		if said := err.Error(); said != b.said || time.Since(b.at) >= remindInterval {
			klog.FromContext(ctx).Error(err, "Not everything could be programmed", "retryAfter", b.next)
			b.said, b.at = said, time.Now()
		}
		b.timer, b.next = time.After(b.next), min(2*b.next, retryMost)
	}
}
