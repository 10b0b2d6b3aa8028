package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"os"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/reconcile"
)

// Foreign virtual servers belong to others, such as a director, at addresses of Services. A virtual server is owned by
// kube-ipvs if it had an ownership record when they were read, or if its address is a cluster IP. So a record is written
// only where there is no server, or one that kube-proxy left, and a server added by others between the record and ours is foreign all the same.
type foreign struct {
	keys  map[ipvs.Key]struct{} // of foreign servers
	fresh map[ipvs.Key]struct{} // with a record, and no server yet
}

func newForeign() foreign {
	return foreign{keys: map[ipvs.Key]struct{}{}, fresh: map[ipvs.Key]struct{}{}}
}

// has reports whether somebody else's virtual server is at a key.
func (f foreign) has(k ipvs.Key) bool {
	_, is := f.keys[k]
	return is
}

// errForeign is the reason not to write an ownership record.
var errForeign error = reconcile.Declined("somebody else has a virtual server there, which is left alone (ipvsadm -D removes it)")

// isOurs reports whether an existing virtual server is owned by kube-ipvs. It stays so if others remove its ownership
// record.
func (d *Dataplane) isOurs(k ipvs.Key) bool {
	if k.Mark != 0 || !d.tables.has(k.Addr) {
		return false
	}
	_, known := d.tables.servers.Known(k)
	_, listed := d.tables.owned(k.Addr).Known(MemberOf(k))
	return known || listed && !d.isForeign(k) || d.inServiceCIDR(k.Addr) || d.predecessor.has(k)
}

func (d *Dataplane) isForeign(k ipvs.Key) bool {
	_, fresh := d.foreign.fresh[k]
	return fresh || d.foreign.has(k)
}

// setForeign notes whether there is a foreign server at a key, to be reported to its Service.
func (d *Dataplane) setForeign(k ipvs.Key, is bool) {
	if d.foreign.has(k) == is {
		return
	}
	if is {
		d.foreign.keys[k] = struct{}{}
	} else {
		delete(d.foreign.keys, k)
	}
	d.changed[k] = struct{}{}
}

// doOwned writes and removes ownership records. None is written for a foreign server.
func (d *Dataplane) doOwned(ctx context.Context, ops []ipset.Op) []error {
	errs := d.refuseForeign(ctx, ops)
	var rest []ipset.Op
	var at []int
	for i, op := range ops {
		if errs[i] != nil {
			continue
		}
		rest, at = append(rest, op), append(at, i)
		if op.Verb == ipset.Del {
			delete(d.foreign.fresh, MemberKey(op.Member))
		}
	}
	for i, err := range d.cfg.Sets.Do(ctx, rest) {
		errs[at[i]] = err
	}
	return errs
}

// refuseForeign returns an error for each record of a foreign server. The others are fresh.
func (d *Dataplane) refuseForeign(ctx context.Context, ops []ipset.Op) []error {
	errs := make([]error, len(ops))
	var asked []ipvs.Key
	var at []int
	for i, op := range ops {
		if k := MemberKey(op.Member); op.Verb == ipset.Add && !d.isOurs(k) {
			asked, at = append(asked, k), append(at, i)
		}
	}
	there, err := d.servers(ctx, asked)
	for i, k := range asked {
		switch {
		case err != nil:
			errs[at[i]] = err
			continue
		case there[k]:
			errs[at[i]] = errForeign
			d.unguard(ctx, k)
		default:
			d.foreign.fresh[k] = struct{}{}
		}
		d.setForeign(k, there[k])
	}
	return errs
}

// fewServers is the maximum of virtual servers to read one by one. To read more costs more than to list all.
const fewServers = 16

// servers returns which of these virtual servers exist, owned or foreign.
func (d *Dataplane) servers(ctx context.Context, keys []ipvs.Key) (map[ipvs.Key]bool, error) {
	there := map[ipvs.Key]bool{}
	if len(keys) > fewServers {
		err := d.cfg.IPVS.Walk(ctx, func(k ipvs.Key, _ ipvs.Entry) { there[k] = true })
		if err != nil {
			return nil, fmt.Errorf("list virtual servers: %w", err)
		}
		return there, nil
	}
	for _, k := range keys {
		_, err := d.cfg.IPVS.ReadServer(ctx, k)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		there[k] = err == nil
	}
	return there, nil
}

// noteMade notes the result of adding a virtual server: if its record is fresh and there is a server already, that is
// foreign, and the record is removed.
func (d *Dataplane) noteMade(ctx context.Context, k ipvs.Key, err error) {
	if _, fresh := d.foreign.fresh[k]; !fresh {
		return
	}
	if !errors.Is(err, os.ErrExist) { // added, or perhaps added
		delete(d.foreign.fresh, k)
		return
	}
	d.setForeign(k, true)
	d.unguard(ctx, k)
	records, record := d.members[d.tables.sets(k.Addr).Owned.Name], []ipset.Member{MemberOf(k)}
	records.CarryOut(ctx, record, records.Del, records.Table.Forget)
	records.Fail(record[0], errForeign)
}

// unguard removes the source ranges of a Service from a foreign server, whose clients they do not concern.
func (d *Dataplane) unguard(ctx context.Context, k ipvs.Key) {
	guards, guard := d.members[d.tables.sets(k.Addr).Ranged.Name], []ipset.Member{MemberOf(k)}
	if _, known := guards.Table.Known(guard[0]); known {
		guards.CarryOut(ctx, guard, guards.Del, guards.Table.Forget)
	}
}

// servedNoMore reports whether the virtual server of an ownership record is removed.
func (d *Dataplane) servedNoMore(m ipset.Member) bool { return d.serverLayer.Absent(MemberKey(m)) }
