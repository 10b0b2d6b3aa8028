package loop

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// A setOp makes or destroys a set.
type setOp struct {
	destroy bool
	set     ipset.Set
}

// String returns the op as an operator would type it.
func (op setOp) String() string {
	if op.destroy {
		return "ipset destroy " + op.set.Name
	}
	return fmt.Sprintf("ipset create %s %s", op.set.Name, op.set.Type)
}

// setsLayer is the layer of the sets themselves. Those of ours that are wanted no more are destroyed.
func (l *Loop) setsLayer() *tableLayer[string, struct{}, setOp] {
	t := delta.New[string, struct{}]()
	defined := map[string]ipset.Set{}
	for _, sets := range l.tables.families {
		for _, set := range sets.All() {
			t.Want(set.Name, struct{}{})
			defined[set.Name] = set
		}
	}
	return &tableLayer[string, struct{}, setOp]{
		title: "sets", table: t, compare: strings.Compare, doubted: true, count: l.count.layer("sets"),
		read: func(ctx context.Context) (iter.Seq2[string, struct{}], error) {
			names, err := l.cfg.Sets.Names(ctx)
			return func(yield func(string, struct{}) bool) {
				for _, name := range names {
					if strings.HasPrefix(name, plan.SetPrefix) && !yield(name, struct{}{}) {
						return
					}
				}
			}, err
		},
		do:  l.doSets,
		add: func(name string, _ struct{}, _ bool) setOp { return setOp{set: defined[name]} },
		del: func(name string) setOp { return setOp{destroy: true, set: ipset.Set{Name: name}} },
	}
}

// doSets makes and destroys sets. A set that was just made has no members, whatever was known of one with its name.
func (l *Loop) doSets(ctx context.Context, ops []setOp) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		if op.destroy {
			errs[i] = l.cfg.Sets.Destroy(ctx, op.set.Name)
			continue
		}
		if errs[i] = l.cfg.Sets.Create(ctx, op.set); errs[i] == nil {
			l.tables.members[op.set.Name].Observe(func(func(ipset.Member, ipset.Mark) bool) {})
		}
	}
	return errs
}

// A rulesLayer is the layer of one family's rules, which are one object.
type rulesLayer struct {
	kernel iptables.Kernel
	rules  iptables.Ruleset
	count  *counters

	stands     bool
	trace      iptables.Trace // of the rules when they were last seen to stand
	doubted    bool           // it may not stand any more
	unreadable error          // why that could not be looked at
	failed     error          // why it could not be made to stand
}

func (l *Loop) rulesLayer(f ipset.Family) *rulesLayer {
	rules := plan.Rules(plan.RulesConfig{
		Marks: l.cfg.Marks, Detector: l.cfg.Detector, Bind: l.cfg.Plan.Bind, PredictablePorts: l.cfg.PredictablePorts,
	}, f)
	return &rulesLayer{kernel: l.cfg.Rules, rules: rules, count: l.count.layer("rules " + rules.Family.String())}
}

func (r *rulesLayer) name() string          { return "rules " + r.rules.Family.String() }
func (r *rulesLayer) doubt()                { r.doubted = true }
func (r *rulesLayer) unread() bool          { return r.unreadable != nil }
func (r *rulesLayer) trouble() error        { return errors.Join(r.unreadable, r.failed) }
func (r *rulesLayer) prune(context.Context) {}

func (r *rulesLayer) again() {
	r.doubted = r.doubted || r.unreadable != nil
	r.failed = nil
}

func (r *rulesLayer) pending() int {
	if r.stands {
		return 0
	}
	return 1
}

// observe looks whether what was ensured stands. At start nothing was, and nothing is looked at.
func (r *rulesLayer) observe(ctx context.Context) {
	if !r.doubted || !r.stands {
		return
	}
	r.count.reads.Inc()
	r.doubted = false
	// The trace is taken first: what changes in between differs from it.
	trace, err := r.kernel.Trace(ctx, r.rules.Family)
	stands := false
	if err == nil {
		stands, err = r.kernel.Stands(ctx, r.rules.Family)
	}
	if err != nil {
		r.unreadable = fmt.Errorf("read %s: %w", r.name(), err)
		return
	}
	r.stands, r.trace, r.unreadable = stands, trace, nil
}

func (r *rulesLayer) ensure(ctx context.Context) {
	if r.stands || r.failed != nil {
		return
	}
	r.count.operations.Inc()
	if err := r.kernel.Ensure(ctx, r.rules); err != nil {
		r.count.failures.Inc()
		r.failed = fmt.Errorf("%s: %w", r.name(), err)
		return
	}
	// What somebody did between the rules and the trace would be in the trace. So there is none yet: the next look takes
	// one, and then sees whether the rules stand.
	r.stands, r.doubted, r.trace = true, false, ""
}

// base wants what is there whatever the Services are.
func (l *Loop) base() {
	for _, f := range l.cfg.Families {
		for _, item := range l.baseOf(f) {
			l.tables.vips.Want(item, struct{}{})
		}
	}
}

// baseOf is what a family needs whatever the Services are: the link, the ways of packets that are diverted or refused,
// and the rule of last resort.
func (l *Loop) baseOf(f ipset.Family) [5]vip.Item {
	all, m := everything(f), l.cfg.Marks
	return [...]vip.Item{
		{Kind: vip.Link},
		{Kind: vip.Divert, Prefix: all, Mark: m.Divert},
		{Kind: vip.LastResort, Prefix: all},
		{Kind: vip.Refuse, Prefix: all, Mark: m.Value(plan.Refuse), Mask: m.Mask()},
		{Kind: vip.RefuseRoute, Prefix: all},
	}
}

// stands says that the base of a family stands, and frontends may be turned on.
func (l *Loop) stands(f ipset.Family) bool {
	for _, item := range l.baseOf(f) {
		if _, known := l.tables.vips.Known(item); !known {
			return false
		}
	}
	return l.ruled(f)
}

// ruled says that the rules of a family stand.
func (l *Loop) ruled(f ipset.Family) bool {
	i := slices.Index(l.cfg.Families, f)
	return i >= 0 && l.rules[i].stands
}

// reroute routes the service CIDRs to the link instead of those that were. Those of a family that this node does not have
// are nothing to it.
func (l *Loop) reroute(cidrs []netip.Prefix) {
	was := l.cfg.Plan.ServiceCIDRs
	for _, p := range cidrs {
		if l.tables.has(p.Addr()) {
			l.tables.vips.Want(vip.Item{Kind: vip.Route, Prefix: p}, struct{}{})
		}
	}
	for _, p := range was {
		if l.tables.has(p.Addr()) {
			l.tables.vips.Drop(vip.Item{Kind: vip.Route, Prefix: p})
		}
	}
	l.cfg.Plan.ServiceCIDRs = cidrs
}

// everything is the prefix of all addresses of a family.
func everything(f ipset.Family) netip.Prefix {
	if f == ipset.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func (l *Loop) inServiceCIDR(a netip.Addr) bool {
	return slices.ContainsFunc(l.cfg.Plan.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}
