package ipvsmode

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// A Config configures a loop in this mode. Fields are required unless their comment makes them optional. Dataplane, Beat and
// Metrics of the embedded loop.Config need not be set.
type Config struct {
	loop.Config
	Kernel

	Families         []inet.Family // of this node
	Marks            Marks
	Detector         Detector
	PredictablePorts bool                             // iptables is too old for --random-fully
	Settings         []sysctl.Setting                 // kept as they are given
	Forwarding       map[inet.Family][]sysctl.Setting // kept from the first frontend of the family on
	DrainLimit       time.Duration                    // how long an unlisted endpoint may keep its connections

	// NodeProblems is called with the node's reasons not to serve Services, whenever they change. It may be nil, as may
	// the following ones.
	NodeProblems func([]plan.Problem)

	// Serves is called with the families that work, or are needed, whenever they change.
	Serves func([]inet.Family)

	// Withhold returns why a setting of Forwarding must not be written for now, or nil.
	Withhold func(context.Context, sysctl.Setting) error

	// InUse returns the addresses that the node's sockets have as their own. Without it, connections of the node from addresses
	// that kube-proxy put on the link end when the addresses go.
	InUse func(context.Context) (map[netip.Addr]struct{}, error)

	// Exclude has the ranges of virtual servers that were not kube-proxy's, and are left alone (excludeCIDRs).
	Exclude []netip.Prefix

	Metrics *Metrics
}

// New returns a loop that drives IPVS. It does nothing before Run.
func New(cfg Config) *loop.Loop { return newDataplane(cfg).loop() }

// A Dataplane forwards packets by IPVS. It implements loop.Dataplane.
type Dataplane struct {
	cfg       Config
	node      plan.Node
	ranges    []netip.Prefix // of cluster IPs
	frontends map[ipvs.Key]*plan.Frontend
	tables    *tables
	foreign   foreign

	predecessor predecessor
	takeover    *takeover
	unbinding   unbinding

	settings     *delta.Table[string, string]
	layers       reconcile.Stack
	settingLayer *reconcile.TableLayer[string, string, sysctl.Setting]                // of layers, the one of kernel settings
	setLayer     *reconcile.TableLayer[string, struct{}, setOp]                       // of layers, the one of the sets themselves
	members      map[string]*reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op] // of layers, those of sets by name
	rules        []*rulesLayer                                                        // of layers, those of rules by family
	routes       *reconcile.TableLayer[steering.Item, netip.Addr, steering.Op]        // of layers, the one of the link and routes
	addresses    *reconcile.TableLayer[steering.Item, netip.Addr, steering.Op]        // of layers, the one of addresses on the link
	serverLayer  *reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op]                // of layers, the one of virtual servers
	realLayer    *realsLayer                                                          // of layers, the one of real servers
	flows        *flowsLayer                                                          // of layers, the one of tracked flows

	begun      bool                     // the first update was made
	forwarding map[inet.Family]struct{} // families whose Forwarding is kept
	made       int                      // IPv4 virtual servers that were made, without those that were removed
	table      shared[ipvs.Table]       // owned virtual servers, with their real servers
	items      shared[steering.Items]   // of the routing
	fitness    map[inet.Family]*fitness
	withheld   map[string]error // reasons to leave settings as they are
	unfit      []plan.Problem   // the node's
	count      *Metrics
	changed    map[ipvs.Key]struct{} // frontends whose status changed since the last sync
	lookout    lookout
	changes    map[string]*loop.ExternalChange
	refusals   map[ipvs.Key]*refusal // of objects, by their frontend

	drainAt  time.Time // when draining real servers are checked next, or zero
	putOffAt time.Time // when work that was put off is retried, or zero
}

func newDataplane(cfg Config) *Dataplane {
	d := &Dataplane{
		cfg: cfg, frontends: map[ipvs.Key]*plan.Frontend{}, tables: newTables(cfg.Marks, cfg.Plan.Bind, cfg.Families), foreign: newForeign(),
		settings: delta.New[string, string](), members: map[string]*reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op]{},
		forwarding: map[inet.Family]struct{}{}, fitness: map[inet.Family]*fitness{}, count: cfg.Metrics, changed: map[ipvs.Key]struct{}{}, refusals: map[ipvs.Key]*refusal{},
		changes: map[string]*loop.ExternalChange{},
	}
	d.cfg.optional()
	d.count.beat = d.cfg.Beat
	for _, f := range cfg.Families {
		d.fitness[f] = &fitness{}
	}
	for _, s := range cfg.Settings {
		d.settings.Want(s.Name, s.Value)
	}
	d.table.read, d.items.read = d.readTable, cfg.Steering.Read
	d.predecessor.exclude, d.takeover = cfg.Exclude, d.takeoverLayer()
	d.layers = d.layersOf()
	d.base()
	return d
}

// layersOf returns the layers in the order in which they are ensured. From the frontends up, a packet's way is ready
// before it is opened: settings, sets, rules, a frontend's guards, link, routes and addresses, its servers, and at last
// the member that turns it on. Pruning goes the other way.
func (d *Dataplane) layersOf() reconcile.Stack {
	d.settingLayer, d.setLayer = d.settingsLayer(), d.setsLayer()
	var guards, on reconcile.Stack
	for _, f := range d.cfg.Families {
		s, rules := d.tables.families[f], d.rulesLayer(f)
		d.rules = append(d.rules, rules)
		guards = append(guards,
			d.membersLayer(s.Owned, gates{mayDel: d.servedNoMore, do: d.doOwned}),
			// Networks are added before packets for them are delivered here, so that no listener on the node gets any. Those
			// that kube-proxy's ipvs mode delivers here already are served by it until all frontends are on.
			d.membersLayer(s.Local, gates{ready: func() bool { return !d.predecessor.isThere || d.allOn(s) }, mayDel: d.isUnbound}),
			d.membersLayer(s.Addresses, gates{}),
			d.membersLayer(s.Allowed, gates{}),
			d.membersLayer(s.Hairpins, gates{}),
			d.membersLayer(s.Health, gates{}),
			d.membersLayer(s.Ranged, gates{mayAdd: d.isNotForeign, mayDel: d.offOrOpen(s)}),
			rules)
		stands := func() bool { return d.stands(f) }
		on = append(on,
			d.membersLayer(s.Rejected, gates{ready: stands}), // the rules translate to addresses that need their routes
			d.membersLayer(s.Frontends, gates{ready: stands, mayAdd: d.mayTurnOn, mayDel: d.isNotDiverted(s), do: d.doFrontends}),
			d.membersLayer(s.Internal, gates{ready: stands, mayAdd: d.aliasServes}),
			d.membersLayer(s.External, gates{mayAdd: d.mayDivert(s)}),
			// Another proxy may still serve frontends that are not on yet.
			d.membersLayer(s.Closed, gates{ready: func() bool { return d.givenUp(f) || d.stands(f) && d.allOn(s) }}))
	}
	d.routes, d.addresses = d.steeringLayer(routingTitle, d.tables.routing), d.steeringLayer(boundTitle, d.tables.bound)
	d.flows, d.serverLayer, d.realLayer = d.flowsLayer(), d.serversLayer(), d.realsLayer()
	d.serverLayer.With, d.realLayer.With = d.realLayer, d.serverLayer // one table in the kernel
	return slices.Concat(
		reconcile.Stack{d.settingLayer, d.setLayer}, guards,
		reconcile.Stack{d.routes, d.flows, d.serverLayer, d.realLayer}, on,
		reconcile.Stack{d.addresses, d.takeover})
}

// optional sets the defaults of optional fields.
func (c *Config) optional() {
	if c.NodeProblems == nil {
		c.NodeProblems = func([]plan.Problem) {}
	}
	if c.Serves == nil {
		c.Serves = func([]inet.Family) {}
	}
	if c.Withhold == nil {
		c.Withhold = func(context.Context, sysctl.Setting) error { return nil }
	}
	if c.Beat == nil {
		c.Beat = func() {}
	}
}

// loop returns a loop that drives the data plane.
func (d *Dataplane) loop() *loop.Loop {
	cfg := d.cfg.Config
	cfg.Dataplane, cfg.Metrics = d, d.count.Metrics
	return loop.New(cfg)
}

// SetNode implements loop.Dataplane.
func (d *Dataplane) SetNode(node plan.Node, ranges []netip.Prefix) {
	before := d.node
	d.node = node
	d.admitIPv6(before.Own, node.Own)
	d.updateRoutes(ranges)
}

// Update implements loop.Dataplane. Objects of both states are claimed again before they are given back, so that they never
// look undesired.
func (d *Dataplane) Update(old, now *plan.Frontend) {
	add, drop := refs{tables: d.tables}, refs{tables: d.tables, drop: true}
	if now != nil {
		key := KeyOf(now.Address)
		before := d.frontends[key]
		if before != nil {
			d.own(before, plan.Name{})
		}
		d.frontends[key] = now
		add.frontend(now)
		d.own(now, now.Service)
		d.forward(now)
		if before != nil {
			drop.frontend(before)
			d.endUDP(before, now)
		}
		return
	}
	key := KeyOf(old.Address)
	if before := d.frontends[key]; before != nil {
		delete(d.frontends, key)
		d.own(before, plan.Name{})
		drop.frontend(before)
	}
	d.setForeign(key, false)
}

// UpdateService implements loop.Dataplane.
func (d *Dataplane) UpdateService(old, now *plan.Desired) {
	add, drop := refs{tables: d.tables}, refs{tables: d.tables, drop: true}
	add.service(now)
	drop.service(old)
}

// Invalidate implements loop.Dataplane.
func (d *Dataplane) Invalidate(p loop.Part) {
	if p&loop.Failures != 0 {
		d.layers.Retry()
	}
	if p&loop.Everything != 0 {
		d.layers.Invalidate()
	}
	if p&loop.Routing != 0 {
		d.routes.Invalidate()
		d.addresses.Invalidate()
	}
}

// Sync implements loop.Dataplane.
func (d *Dataplane) Sync(ctx context.Context, update func()) loop.Result {
	d.due(time.Now())
	d.layers.Observe(ctx, d.cfg.Beat)
	d.table.forget()
	d.items.forget()
	if update != nil && (d.begun || !d.ownersUnknown()) { // or all existing objects would look undesired
		d.begun = true
		d.passOn() // also forgets aliases that nobody needs, before somebody is told that they are taken
		update()
		d.passOn()
		d.converge(ctx)
		d.assess(ctx)
	}
	err := d.layers.Err()
	if err != nil || len(d.refusals) > 0 {
		d.noteRefusals(time.Now())
	}
	r := d.result(err, time.Now())
	if !r.Busy && !r.Blocked {
		r.Repaired = d.tellDrift(ctx)
	}
	return r
}

// due starts work whose time has come.
func (d *Dataplane) due(now time.Time) {
	if !d.drainAt.IsZero() && !now.Before(d.drainAt) {
		d.drainAt, d.realLayer.look = time.Time{}, true
	}
	if !d.putOffAt.IsZero() && !now.Before(d.putOffAt) {
		d.putOffAt = time.Time{}
		d.layers.Retry()
	}
}

// converge makes the kernel's state the desired one.
func (d *Dataplane) converge(ctx context.Context) {
	d.withhold(ctx)
	d.release(ctx, time.Now())
	d.replaceAddresses()
	d.layers.Sync(ctx)
	d.count.found(d.layers, d.tables.draining.count)
}

// result returns how a sync ended, and when the next one is due.
func (d *Dataplane) result(err error, now time.Time) loop.Result {
	r := loop.Result{Err: err, Busy: d.unsettled()}
	r.Idle, d.count.asked = !d.count.asked, false
	r.Blocked = r.Err != nil && d.isBlocked()
	for k := range d.changed {
		r.Changed = append(r.Changed, AddressOf(k))
	}
	clear(d.changed)
	if d.drainAt.IsZero() && d.tables.draining.count > 0 {
		d.drainAt = now.Add(drainInterval)
	}
	if d.putOffAt.IsZero() && d.putOff() {
		d.putOffAt = now.Add(putOffInterval)
	}
	soon, release, step := time.Time{}, time.Time{}, time.Time{}
	if d.canPassOn() {
		soon = now
	}
	if len(d.unbinding.held) > 0 && !d.unbinding.busy {
		release = d.unbinding.next
	}
	if d.takeover.state == found && d.takeover.err == nil {
		step = now.Add(stepInterval)
	}
	for _, at := range []time.Time{soon, d.drainAt, d.putOffAt, release, step} {
		if !at.IsZero() && (r.Next.IsZero() || at.Before(r.Next)) {
			r.Next = at
		}
	}
	return r
}

// isBlocked reports whether more than single objects cannot be programmed: a read failed, the base of a family is not in
// place, or the kernel refuses every change of a layer.
func (d *Dataplane) isBlocked() bool {
	for f := range d.tables.families {
		if !d.givenUp(f) && !d.stands(f) {
			return true
		}
	}
	return d.layers.Blocked()
}

// IsProgrammed implements loop.Dataplane. Frontends of a family that this node does not have are as they can be.
func (d *Dataplane) IsProgrammed(a plan.Address) bool {
	key := KeyOf(a)
	fe := d.frontends[key]
	if fe == nil || !d.tables.has(a.Addr) {
		return true
	}
	on := stands(d.tables.members[d.tables.sets(a.Addr).Frontends.Name], MemberOf(key))
	if !on || !d.tables.serves(key, fe.Backends) {
		return false
	}
	return !d.tables.hasAlias(fe) || d.tables.serves(AliasKey(a), fe.Internal.Backends)
}

// Status implements loop.Dataplane.
func (d *Dataplane) Status(a plan.Address) loop.Status {
	var s loop.Status
	f := inet.FamilyOf(a.Addr)
	if !d.tables.has(a.Addr) {
		s.Lacks = fmt.Sprintf("this node does not have %v", f)
		return s
	}
	if told := d.fitness[f].told; told != "" {
		s.Family = f.String() + " does not work on this node: " + told
	}
	key := KeyOf(a)
	if r := d.refusals[key]; r != nil && r.told {
		r.status(&s)
	}
	if d.foreign.has(key) {
		s.Refused = errForeign
	}
	if fe := d.frontends[key]; fe != nil && fe.Internal != nil && !d.tables.hasAlias(fe) {
		s.Limited = d.tables.aliasTaken(fe)
	}
	return s
}

// serves reports whether a virtual server has these real servers.
func (t *tables) serves(server ipvs.Key, reals []netip.AddrPort) bool {
	return !slices.ContainsFunc(reals, func(at netip.AddrPort) bool { return !stands(t.reals, ipvs.RealKeyOf(server, at)) })
}

// stands reports whether an object is desired, and the kernel has it as desired.
func stands[K, V comparable](t *delta.Table[K, V], key K) bool {
	wanted, isWanted := t.Wanted(key)
	known, isKnown := t.Known(key)
	return isWanted && isKnown && wanted == known
}
