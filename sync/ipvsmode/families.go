package ipvsmode

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/reconcile"
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
const tellAfter = 10 * time.Second

// putOffInterval is how often what was put off is tried again.
const putOffInterval = time.Minute

// putOff reports whether something is left alone for now that does not count as a failure.
func (d *Dataplane) putOff() bool {
	return len(d.spared) > 0 || slices.ContainsFunc(d.cfg.Families, d.givenUp)
}

func (d *Dataplane) givenUp(f inet.Family) bool { return d.fitness[f].givenUp }

// isGivenUp reports whether an item is of a family that is given up.
func (d *Dataplane) isGivenUp(i vip.Item) bool {
	return i.Prefix.IsValid() && d.tables.has(i.Prefix.Addr()) && d.givenUp(inet.FamilyOf(i.Prefix.Addr()))
}

func (d *Dataplane) rulesOf(f inet.Family) *rulesLayer {
	return d.rules[slices.Index(d.cfg.Families, f)]
}

// needed reports whether a Service has a frontend of the family.
func (d *Dataplane) needed(f inet.Family) bool {
	for range d.tables.members[d.tables.families[f].Frontends.Name].Wants() {
		return true
	}
	return false
}

// whyNot returns why the base of a family does not stand: what failed of its rules, its routes, and the link. It is nil
// where it stands, and while nothing has failed yet.
func (d *Dataplane) whyNot(f inet.Family) error {
	if d.stands(f) {
		return nil
	}
	errs := []error{d.rulesOf(f).why()}
	for item, err := range d.routes.Failures() {
		if !item.Prefix.IsValid() || inet.FamilyOf(item.Prefix.Addr()) == f {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs[1:], func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return reconcile.Summary(errs)
}

// assess judges the families after a turn, and tells who is concerned by what changed. The last family that works is never
// given up.
func (d *Dataplane) assess(ctx context.Context) {
	log := klog.FromContext(ctx)
	why := map[inet.Family]error{}
	for _, f := range d.cfg.Families {
		why[f] = d.whyNot(f)
	}
	changed := false
	for _, f := range d.cfg.Families {
		s := d.fitness[f]
		others := slices.ContainsFunc(d.cfg.Families, func(o inet.Family) bool { return o != f && why[o] == nil && !d.givenUp(o) })
		was := s.givenUp
		switch {
		case d.stands(f):
			s.since, s.givenUp = time.Time{}, false
		case d.needed(f):
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
					"family", f.String(), "why", why[f].Error())
			} else {
				log.Info("An address family is taken up again", "family", f.String())
			}
		}
		d.tellFamily(f, why[f])
	}
	if changed {
		d.cfg.Serves(slices.DeleteFunc(slices.Clone(d.cfg.Families), d.givenUp))
	}
	d.tellNode()
}

// tellFamily tells the Services of a family that it does not serve them, or that it does again.
func (d *Dataplane) tellFamily(f inet.Family, why error) {
	s, told := d.fitness[f], ""
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
	for key := range d.frontends {
		if inet.FamilyOf(key.Addr) == f {
			d.changed[key] = struct{}{}
		}
	}
}
