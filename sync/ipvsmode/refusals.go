package ipvsmode

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/reconcile"
)

// A refusal is the reason why the kernel does not have all objects of a frontend. It is reported to its Service only if it
// outlasts the first retries.
type refusal struct {
	since time.Time
	err   error // the first in order, with its operation
	more  int   // number of others
	whole bool  // the frontend is not served at all
	told  bool
}

// text is the refusal as it is reported to its Service.
func (r *refusal) text() string {
	if r.more > 0 {
		return fmt.Sprintf("%v (and %d more)", r.err, r.more)
	}
	return r.err.Error()
}

// status adds the refusal to a frontend's status.
func (r *refusal) status(s *loop.Status) {
	if r.whole {
		s.Refused = errors.New(r.text())
	} else {
		s.Limited = "is served, but not as a whole: " + r.text()
	}
}

// add adds a refused object. The first in order does not depend on the order of the calls.
func (r *refusal) add(err error, whole bool) {
	switch {
	case r.err == nil:
		r.err = err
	case err.Error() < r.err.Error():
		r.err = err
		r.more++
	default:
		r.more++
	}
	r.whole = r.whole || whole
}

// noteRefusals notes the frontends with refused objects, after a sync.
func (d *Dataplane) noteRefusals(now time.Time) {
	found := d.findRefusals()
	for key, r := range found {
		r.since = now
		if before := d.refusals[key]; before != nil {
			r.since, r.told = before.since, before.told
			if r.told && r.text() != before.text() {
				d.changed[key] = struct{}{}
			}
		}
		if !r.told && now.Sub(r.since) >= tellAfter {
			r.told = true
			d.changed[key] = struct{}{}
		}
	}
	for key, before := range d.refusals {
		if found[key] == nil && before.told {
			d.changed[key] = struct{}{}
		}
	}
	d.refusals = found
}

// findRefusals returns the present refusals by frontend.
func (d *Dataplane) findRefusals() map[ipvs.Key]*refusal {
	var found map[ipvs.Key]*refusal
	add := func(key ipvs.Key, whole bool, err error) {
		if of, isAlias := d.tables.aliasOf(key); isAlias {
			key, whole = of, false
		}
		if d.frontends[key] == nil || errors.As(err, new(reconcile.Declined)) {
			return
		}
		if found == nil {
			found = map[ipvs.Key]*refusal{}
		}
		if found[key] == nil {
			found[key] = &refusal{}
		}
		found[key].add(err, whole)
	}
	for key, err := range d.serverLayer.Failures() {
		add(key, true, err)
	}
	for key, err := range d.realLayer.Failures() {
		add(key.Server, false, err)
	}
	for _, s := range d.tables.families {
		for _, set := range []ipset.Set{s.Owned, s.Frontends, s.External, s.Internal, s.Rejected, s.Ranged, s.Allowed} {
			for m, err := range d.members[set.Name].Failures() {
				add(MemberKey(m), set == s.Owned || set == s.Frontends || set == s.External, err)
			}
		}
	}
	d.findRefusedItems(add)
	return found
}

// findRefusedItems adds the refusals of routes and addresses for single addresses.
func (d *Dataplane) findRefusedItems(add func(ipvs.Key, bool, error)) {
	refused := map[netip.Addr]error{}
	for _, layer := range []*reconcile.TableLayer[steering.Item, netip.Addr, steering.Op]{d.routes, d.addresses} {
		for item, err := range layer.Failures() {
			if item.Prefix.IsValid() && item.Prefix.IsSingleIP() {
				refused[item.Prefix.Addr()] = err
			}
		}
	}
	if len(refused) == 0 {
		return
	}
	for key := range d.frontends {
		if err := refused[key.Addr]; err != nil {
			add(key, true, err)
		}
	}
}
