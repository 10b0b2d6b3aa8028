package ipvsmode

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/reconcile"
)

// A fitness is the state of an address family on this node. Half an IPv6 is common: it is disabled for new links, or the
// kernel has no ip6tables. If no Service needs the family, it is given up: this is logged once and retried once in a
// while, and neither makes the node unhealthy nor delays anything else.
type fitness struct {
	since   time.Time // start of the failure of its base, or zero
	givenUp bool
	told    string // the reason reported to its Services; empty: none
}

// tellAfter is how long the base of a needed family may fail before this is reported to its Services.
const tellAfter = 10 * time.Second

// putOffInterval is the time between retries of work that was put off.
const putOffInterval = time.Minute

// putOff reports whether something is left undone for now without counting as a failure.
func (d *Dataplane) putOff() bool {
	return len(d.withheld) > 0 || slices.ContainsFunc(d.cfg.Families, d.givenUp)
}

func (d *Dataplane) givenUp(f inet.Family) bool { return d.fitness[f].givenUp }

// isGivenUp reports whether an item's family is given up.
func (d *Dataplane) isGivenUp(i steering.Item) bool {
	return i.Prefix.IsValid() && d.tables.has(i.Prefix.Addr()) && d.givenUp(inet.FamilyOf(i.Prefix.Addr()))
}

func (d *Dataplane) rulesOf(f inet.Family) *rulesLayer {
	return d.rules[slices.Index(d.cfg.Families, f)]
}

// needed reports whether a Service has a frontend of the family.
func (d *Dataplane) needed(f inet.Family) bool {
	return d.tables.members[d.tables.families[f].Frontends.Name].WantedLen() > 0
}

// whyNot returns why the base of a family is not in place: the failures of its rules, its routes, and the link. It is nil
// if the base is in place, and while nothing has failed yet.
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

// assess updates the fitness of the families after a sync, and reports changes. The last family that works is never
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

// tellFamily reports to the Services of a family that it stopped serving them, or serves them again.
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
