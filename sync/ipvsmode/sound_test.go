package ipvsmode

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// watch tests from now on, after each operation, that it made nothing unsound. Where somebody else did, the loop is on its way
// to mend that.
func (r *rig) watch() {
	before := r.unsound()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after = func(op string) {
		now := r.unsound()
		for _, wrong := range slices.Sorted(maps.Keys(now)) {
			if !before[wrong] {
				r.t.Errorf("after %s: %s", op, wrong)
			}
		}
		before = now
	}
}

// unsound is what must not be at any moment, whatever fails: frontends that are on without their servers, servers without
// their lines in the ledger, and foreign servers that were touched.
func (r *rig) unsound() map[string]bool {
	out, table := map[string]bool{}, r.ipvs.Table()
	r.mu.Lock()
	foreign := maps.Clone(r.foreign)
	r.mu.Unlock()
	for _, f := range r.families {
		s := SetsOf(f)
		on, owned := r.membersOf(s.Frontends), r.membersOf(s.Owned)
		for m := range on {
			if _, served := table[MemberKey(m)]; !served || foreign[MemberKey(m)] {
				out[fmt.Sprintf("%v is on without a server of ours", m)] = true
			}
		}
		for m := range r.membersOf(s.Internal) {
			k := MemberKey(m)
			k.Addr = Alias(k.Addr)
			if _, served := table[k]; !served {
				out[fmt.Sprintf("%v sends internal sources to an alias without a server", m)] = true
			}
		}
		for m := range r.membersOf(s.External) {
			if _, isOn := on[m]; !isOn {
				out[fmt.Sprintf("%v is diverted and no frontend", m)] = true
			}
		}
		for k := range table {
			if _, listed := owned[MemberOf(k)]; !listed && inet.FamilyOf(k.Addr) == f && !foreign[k] {
				out[fmt.Sprintf("%v has no line in the ledger", k)] = true
			}
		}
	}
	for k := range foreign {
		if !isDirected(table[k]) {
			out[fmt.Sprintf("%v of somebody else was touched", k)] = true
		}
	}
	return out
}

// membersOf returns a set's members, without the loop's asking.
func (r *rig) membersOf(s ipset.Set) map[ipset.Member]ipset.Mark {
	members, _ := r.sets.Read(r.t.Context(), s) // a set that is not there has none
	return members
}

// holds is all that the kernel holds, a line each, in order.
func (r *rig) holds() []string {
	out := strings.Split(strings.TrimSpace(r.steering.String()), "\n")
	for _, f := range r.families {
		for _, set := range SetsOf(f).All() {
			for m, mark := range r.membersOf(set) {
				out = append(out, fmt.Sprintf("%s %v %v", set.Name, m, mark))
			}
		}
	}
	for k, e := range r.ipvs.Table() {
		out = append(out, fmt.Sprintf("%v %v", k, e.Server))
		for at, state := range e.Reals {
			out = append(out, fmt.Sprintf("%v -> %v %v", k, at, state))
		}
	}
	slices.Sort(out)
	return out
}

// forget sets what is carried out without an answer from now on.
func (r *rig) forget(lose func(what string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = lose
}

// done returns an error if the answer to what was carried out is to be lost.
func (r *rig) done(what string) error {
	r.mu.Lock()
	lose, after := r.lose, r.after
	r.mu.Unlock()
	if after != nil {
		after(what)
	}
	if lose == nil {
		return nil
	}
	return lose(what)
}
