package loop

import (
	"context"
	"errors"
	"fmt"
	"os"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// Foreign virtual servers are those of others at addresses that Services want, such as a director's. A virtual server is ours
// if the ledger named it when it was read, or if its address is a cluster IP's. So a line is written only where there is no
// server, and a server that turns up between the line and ours is foreign all the same.
type foreign struct {
	keys  map[ipvs.Key]struct{} // at which there is a foreign server
	fresh map[ipvs.Key]struct{} // of lines that were written, and the server was not made yet
}

func newForeign() foreign {
	return foreign{keys: map[ipvs.Key]struct{}{}, fresh: map[ipvs.Key]struct{}{}}
}

// errForeign is why a line is not written.
var errForeign = errors.New("somebody else has a virtual server there, which is left alone (ipvsadm -D removes it)")

// isOurs reports whether a virtual server that is there is ours to change. One that was is also where its line was removed by
// hand.
func (l *Loop) isOurs(k ipvs.Key) bool {
	if k.Mark != 0 || !l.tables.has(k.Addr) {
		return false
	}
	_, known := l.tables.servers.Known(k)
	_, listed := l.tables.ledger(k.Addr).Known(memberOf(k))
	return known || listed && !l.isForeign(k) || l.isAllocated(k)
}

func (l *Loop) isForeign(k ipvs.Key) bool {
	_, foreign := l.foreign.keys[k]
	_, fresh := l.foreign.fresh[k]
	return foreign || fresh
}

// isAllocated reports whether a server's address comes from a service range, which is nobody else's.
func (l *Loop) isAllocated(k ipvs.Key) bool { return l.inServiceCIDR(k.Addr) }

// setForeign notes whether there is a foreign server at a key, for its Service to be told.
func (l *Loop) setForeign(k ipvs.Key, is bool) {
	if _, was := l.foreign.keys[k]; was == is {
		return
	}
	if is {
		l.foreign.keys[k] = struct{}{}
	} else {
		delete(l.foreign.keys, k)
	}
	l.moved[k] = struct{}{}
}

// doOwned writes and removes lines of the ledger. None is written for a foreign server.
func (l *Loop) doOwned(ctx context.Context, ops []ipset.Op) []error {
	errs := l.refuseForeign(ctx, ops)
	var rest []ipset.Op
	var at []int
	for i, op := range ops {
		if errs[i] != nil {
			continue
		}
		rest, at = append(rest, op), append(at, i)
		if op.Verb == ipset.Del {
			delete(l.foreign.fresh, keyOf(op.Member))
		}
	}
	for i, err := range l.cfg.Sets.Do(ctx, rest) {
		errs[at[i]] = err
	}
	return errs
}

// refuseForeign returns errors for the lines that are not to be written. The others are fresh.
func (l *Loop) refuseForeign(ctx context.Context, ops []ipset.Op) []error {
	errs := make([]error, len(ops))
	var asked []ipvs.Key
	var at []int
	for i, op := range ops {
		if k := keyOf(op.Member); op.Verb == ipset.Add && !l.isOurs(k) {
			asked, at = append(asked, k), append(at, i)
		}
	}
	there, err := l.servers(ctx, asked)
	for i, k := range asked {
		switch {
		case err != nil:
			errs[at[i]] = err
			continue
		case there[k]:
			errs[at[i]] = errForeign
		default:
			l.foreign.fresh[k] = struct{}{}
		}
		l.setForeign(k, there[k])
	}
	return errs
}

// fewServers is how many virtual servers are asked for one by one. More cost more than to list all that there are.
const fewServers = 16

// servers returns which of these virtual servers there are, whosever they are.
func (l *Loop) servers(ctx context.Context, keys []ipvs.Key) (map[ipvs.Key]bool, error) {
	there := map[ipvs.Key]bool{}
	if len(keys) > fewServers {
		err := l.cfg.IPVS.Walk(ctx, func(k ipvs.Key, _ ipvs.Entry) { there[k] = true })
		if err != nil {
			return nil, fmt.Errorf("list virtual servers: %w", err)
		}
		return there, nil
	}
	for _, k := range keys {
		_, err := l.cfg.IPVS.ReadServer(ctx, k)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		there[k] = err == nil
	}
	return there, nil
}

// noteMade notes the answer to the making of a virtual server: where the line is fresh and there is one already, that is
// foreign, and the line goes.
func (l *Loop) noteMade(ctx context.Context, k ipvs.Key, err error) {
	if _, fresh := l.foreign.fresh[k]; !fresh {
		return
	}
	if !errors.Is(err, os.ErrExist) { // made, or perhaps made
		delete(l.foreign.fresh, k)
		return
	}
	l.setForeign(k, true)
	ledger, line := l.members[l.tables.sets(k.Addr).Owned.Name], []ipset.Member{memberOf(k)}
	ledger.carryOut(ctx, line, ledger.del, ledger.table.Forget)
	ledger.fail(line[0], errForeign)
}

// foreignAt is the problem of a Service at whose frontend there is a foreign server.
func foreignAt(s *service, fe *plan.Frontend) plan.Problem {
	return plan.Problem{
		Object: "Service " + s.fragment.Service.String(), Field: titleOf(fe),
		Reason: "is not served: " + errForeign.Error(), Here: true,
	}
}
