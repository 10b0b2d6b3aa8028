package ipvsmode

import (
	"fmt"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// An alias records its owner, a frontend. Two addresses may have the same alias (it has their last bytes): the first to need it gets
// it, and the other serves internal sources with the endpoints on this node until it is free. The owner of an unused alias is remembered
// until then. An alias where connections are rejected is never free: it owns itself.
type alias struct {
	of      ipvs.Key
	users   []*plan.Frontend // states of the frontend that need it
	waiting []*plan.Frontend // states of other frontends that need it
}

// alias adds a frontend's state to those that use an alias or wait for it, or drops it. It reports whether the frontend has the alias,
// or had it.
func (r refs) alias(fe *plan.Frontend) bool {
	key, of := AliasKey(fe.Address), KeyOf(fe.Address)
	if r.drop {
		return r.giveBack(key, fe)
	}
	r.remember()
	a := r.aliases[key]
	if a == nil {
		a = &alias{of: of}
		r.aliases[key] = a
	}
	if a.of != of {
		a.waiting = append(a.waiting, fe)
		return false
	}
	a.users = append(a.users, fe)
	delete(r.unused, key)
	return true
}

func (t *tables) giveBack(key ipvs.Key, fe *plan.Frontend) bool {
	a := t.aliases[key]
	if i := slices.Index(a.waiting, fe); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		return false
	}
	i := slices.Index(a.users, fe)
	a.users = slices.Delete(a.users, i, i+1)
	if len(a.users) == 0 {
		t.unused[key] = a
	}
	return true
}

// remember reads the aliases' owners before a restart from the sets, once, before any is used.
func (t *tables) remember() {
	if t.remembers {
		return
	}
	t.remembers = true
	for _, sets := range t.families {
		for m := range t.members[sets.Internal.Name].All() {
			of := MemberKey(m)
			if key := AliasKey(AddressOf(of)); t.aliases[key] == nil {
				a := &alias{of: of}
				t.aliases[key], t.unused[key] = a, a
			}
		}
	}
}

// aliasOf returns the frontend of an alias's virtual server. If a restart forgot that, it searches the frontends that are on; the zero
// Key means that none has it.
func (t *tables) aliasOf(k ipvs.Key) (of ipvs.Key, isAlias bool) {
	if !inAliases(k) {
		return ipvs.Key{}, false
	}
	if a := t.aliases[k]; a != nil {
		return a.of, true
	}
	for m := range t.members[t.sets(k.Addr).Internal.Name].All() {
		if of := MemberKey(m); AliasKey(AddressOf(of)) == k {
			return of, true
		}
	}
	return ipvs.Key{}, true
}

// inAliases reports whether a virtual server is an alias.
func inAliases(k ipvs.Key) bool { return inet.AliasRange(inet.FamilyOf(k.Addr)).Contains(k.Addr) }

// hasAlias reports whether a frontend's internal endpoints are, or may be, real servers of its alias.
func (t *tables) hasAlias(fe *plan.Frontend) bool {
	if fe.Internal == nil {
		return false
	}
	a := t.aliases[AliasKey(fe.Address)]
	return a != nil && len(a.users) > 0 && a.of == KeyOf(fe.Address)
}

// aliasTaken returns the message for a frontend whose alias another one has.
func (t *tables) aliasTaken(fe *plan.Frontend) string {
	key := AliasKey(fe.Address)
	why := "kube-ipvs itself uses the address that it would need for more"
	if of, _ := t.aliasOf(key); of != key {
		why = fmt.Sprintf("%v, another address with a Local policy, ends with the same bytes", of.AddrPort())
	}
	return "pods and nodes get the endpoints on this node only: " + why
}

// isFree reports whether an unused alias may pass to another frontend: it is not served, and no packets of its owner are on their way
// there. That is read from the kernel: whoever removed the virtual server, and whatever was answered.
func (d *Dataplane) isFree(key ipvs.Key) bool { return d.serverLayer.Absent(key) && d.isOff(key) }

// canPassOn reports whether a frontend waits for an alias that is free.
func (d *Dataplane) canPassOn() bool {
	for key, a := range d.tables.unused {
		if len(a.waiting) > 0 && d.isFree(key) {
			return true
		}
	}
	return false
}

// passOn gives each free alias to a frontend that waits for it, and forgets it if none does.
func (d *Dataplane) passOn() {
	for key, a := range d.tables.unused {
		switch {
		case !d.isFree(key):
		case len(a.waiting) == 0:
			delete(d.tables.aliases, key)
			delete(d.tables.unused, key)
		default:
			for _, fe := range a.waiting { // all are told whose it is now
				d.changed[KeyOf(fe.Address)] = struct{}{}
			}
			fe := a.waiting[0]
			again := *fe
			a.of = KeyOf(fe.Address)
			d.Update(fe, &again)
		}
	}
}
