package loop

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/plan"
)

// A fitness is how an address family fares on this node. Half an IPv6 is common: it is switched off for new links, or the
// kernel has no ip6tables. Where no Service needs the family that is nobody's concern, so it is given up: it is said once,
// tried again once in a while, and neither makes the node unhealthy nor holds anything else up.
type fitness struct {
	since   time.Time // when its base began to fail, or zero
	givenUp bool
	told    string // why its Services are told that it does not serve them; empty: they are not
}

// tellAfter is how long the base of a family that is needed may fail before its Services are told.
const tellAfter = retryMost

// putOffInterval is how often what was put off is tried again.
const putOffInterval = time.Minute

// putOff reports whether something is left alone for now that does not count as a failure.
func (l *Loop) putOff() bool {
	return len(l.spared) > 0 || slices.ContainsFunc(l.cfg.Families, l.givenUp)
}

func (l *Loop) givenUp(f ipset.Family) bool { return l.fitness[f].givenUp }

// isGivenUp reports whether an item is of a family that is given up.
func (l *Loop) isGivenUp(i vip.Item) bool {
	return i.Prefix.IsValid() && l.tables.has(i.Prefix.Addr()) && l.givenUp(ipset.FamilyOf(i.Prefix.Addr()))
}

func (l *Loop) rulesOf(f ipset.Family) *rulesLayer { return l.rules[slices.Index(l.cfg.Families, f)] }

// nameOf is the family's name, such as "IPv6".
func (l *Loop) nameOf(f ipset.Family) string { return l.rulesOf(f).rules.Family.String() }

// needed reports whether a Service has a frontend of the family.
func (l *Loop) needed(f ipset.Family) bool {
	for range l.tables.members[l.tables.families[f].Frontends.Name].Wants() {
		return true
	}
	return false
}

// whyNot returns why the base of a family does not stand: what failed of its rules, its routes, and the link. It is nil
// where it stands, and while nothing has failed yet.
func (l *Loop) whyNot(f ipset.Family) error {
	if l.stands(f) {
		return nil
	}
	errs := []error{l.rulesOf(f).why()}
	for item, failure := range l.routes.failed {
		if !item.Prefix.IsValid() || ipset.FamilyOf(item.Prefix.Addr()) == f {
			errs = append(errs, failure.error)
		}
	}
	slices.SortFunc(errs[1:], func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return summary(errs)
}

// assess judges the families after a turn, and tells who is concerned by what changed. The last family that works is never
// given up.
func (l *Loop) assess(ctx context.Context) {
	log := klog.FromContext(ctx)
	why := map[ipset.Family]error{}
	for _, f := range l.cfg.Families {
		why[f] = l.whyNot(f)
	}
	changed := false
	for _, f := range l.cfg.Families {
		s := l.fitness[f]
		others := slices.ContainsFunc(l.cfg.Families, func(o ipset.Family) bool { return o != f && why[o] == nil && !l.givenUp(o) })
		was := s.givenUp
		switch {
		case l.stands(f):
			s.since, s.givenUp = time.Time{}, false
		case l.needed(f):
			s.givenUp = false
			if why[f] != nil && s.since.IsZero() {
				s.since = time.Now()
			}
		case why[f] != nil:
			s.givenUp = s.givenUp || others
		}
		if s.givenUp != was {
			changed = true
			if s.givenUp {
				log.Info("An address family does not work on this node and no Service needs it: it is left alone until one does, or it works",
					"family", l.nameOf(f), "why", why[f].Error())
			} else {
				log.Info("An address family is taken up again", "family", l.nameOf(f))
			}
		}
		l.tellFamily(f, why[f])
	}
	if changed {
		l.cfg.Serves(slices.DeleteFunc(slices.Clone(l.cfg.Families), l.givenUp))
	}
	l.tellNode()
}

// tellFamily tells the Services of a family that it does not serve them, or that it does again.
func (l *Loop) tellFamily(f ipset.Family, why error) {
	s, told := l.fitness[f], ""
	if !s.since.IsZero() {
		told = s.told
		if told == "" && why != nil && time.Since(s.since) >= tellAfter {
			told = why.Error()
		}
	}
	if told == s.told {
		return
	}
	s.told = told
	for _, name := range slices.SortedFunc(maps.Keys(l.services), plan.Name.Compare) {
		if svc := l.services[name]; svc.uses(f) {
			l.review(svc)
		}
	}
}

// unserved lists the families of a Service that do not work here.
func (l *Loop) unserved(s *service) []plan.Problem {
	var out []plan.Problem
	for _, f := range l.cfg.Families {
		if told := l.fitness[f].told; told != "" && s.uses(f) {
			out = append(out, plan.Problem{
				Object: "Service " + s.fragment.Service.String(), Field: "spec.ipFamilies",
				Reason: l.nameOf(f) + " does not work on this node: " + told, Here: true,
			})
		}
	}
	return out
}

// uses reports whether a Service has a frontend of the family.
func (s *service) uses(f ipset.Family) bool {
	return slices.ContainsFunc(s.fragment.Frontends, func(fe plan.Frontend) bool { return ipset.FamilyOf(fe.Key.Addr) == f })
}

// linkIPv6 is the setting that switches IPv6 off for the link, which has it from net/ipv6/conf/default.
const linkIPv6 = "net/ipv6/conf/" + vip.LinkName + "/disable_ipv6"

// admitIPv6 wants IPv6 on the link once the node has addresses of it: then it is meant to be used.
func (l *Loop) admitIPv6(before, now []netip.Addr) {
	had, has := slices.ContainsFunc(before, netip.Addr.Is6), slices.ContainsFunc(now, netip.Addr.Is6)
	if had || !has || l.fitness[ipset.IPv6] == nil {
		return
	}
	if _, wanted := l.settings.Wanted(linkIPv6); !wanted {
		l.settings.Want(linkIPv6, "0")
		l.settingLayer.doubt()
	}
	for _, layer := range l.layers { // what failed without it may work now
		layer.again()
	}
}

// doVIPs changes the link, routes and rules. A link that was just made has its own settings.
func (l *Loop) doVIPs(ctx context.Context, ops []vip.Op) []error {
	link := slices.IndexFunc(ops, func(op vip.Op) bool { return op.Verb == vip.Add && op.Item.Kind == vip.Link })
	if _, wanted := l.settings.Wanted(linkIPv6); link < 0 || !wanted {
		return l.cfg.VIP.Do(ctx, ops)
	}
	errs := make([]error, len(ops))
	copy(errs, l.cfg.VIP.Do(ctx, ops[:link+1]))
	l.settingLayer.doubt()
	l.settingLayer.observe(ctx)
	l.settingLayer.ensure(ctx)
	copy(errs[link+1:], l.cfg.VIP.Do(ctx, ops[link+1:]))
	if errors.Join(errs...) == nil {
		return nil
	}
	return errs
}
