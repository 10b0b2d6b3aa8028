package loop

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"os"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/reconcile"
)

// layersOf returns the layers in the order in which they are ensured. From the frontends up, a packet's way is ready
// before it is opened: settings, sets, rules, what guards a frontend, link, routes and addresses, its servers, and at
// last the member that turns it on. Pruning goes the other way.
func (l *Loop) layersOf() reconcile.Stack {
	l.setLayer = l.setsLayer()
	l.settingLayer = l.settingsLayer()
	layers := reconcile.Stack{l.settingLayer, l.setLayer}
	var on reconcile.Stack
	for _, f := range l.cfg.Families {
		s := l.tables.families[f]
		layers = append(layers, l.membersLayer(s.Owned, nil, l.servedNoMore))
		l.members[s.Owned.Name].Do = l.doOwned
		// Networks stand before packets for them are delivered here, so that nothing that listens on the node gets any.
		layers = append(layers, l.membersLayer(s.Local, nil, l.isUnbound))
		for _, set := range []ipset.Set{s.Addresses, s.Allowed, s.Hairpins, s.Health} {
			layers = append(layers, l.membersLayer(set, nil, nil))
		}
		layers = append(layers, l.membersLayer(s.Ranged, nil, l.offOrOpen(s)))
		l.rules = append(l.rules, l.rulesLayer(f))
		layers = append(layers, l.rules[len(l.rules)-1])
		on = append(on,
			l.membersLayer(s.Rejected, nil, nil),
			l.membersLayer(s.Frontends, l.mayTurnOn(s), l.isNotDiverted(s)),
			l.membersLayer(s.Internal, l.aliasServes, nil),
			l.membersLayer(s.External, l.isFrontend(s), nil))
		frontends := l.members[s.Frontends.Name]
		frontends.Do, frontends.Ready = l.doFrontends, func() bool { return l.stands(f) }
	}
	l.flows, l.serverLayer, l.realLayer = l.flowsLayer(), l.serversLayer(), l.realsLayer()
	l.serverLayer.With, l.realLayer.With = l.realLayer, l.serverLayer // one table in the kernel
	l.routes, l.addresses = l.vipLayer(vipsTitle, l.tables.vips), l.vipLayer(boundTitle, l.tables.bound)
	layers = append(layers, l.routes, l.flows, l.serverLayer, l.realLayer)
	return append(append(layers, on...), l.addresses)
}

func (l *Loop) settingsLayer() *reconcile.TableLayer[string, string, sysctl.Setting] {
	return &reconcile.TableLayer[string, string, sysctl.Setting]{
		Title: "settings", Table: l.settings, Compare: strings.Compare, Count: l.count.layer("settings"),
		Read: func(ctx context.Context) (iter.Seq2[string, string], error) {
			var names []string
			for name := range l.settings.Wants() {
				names = append(names, name)
			}
			values, err := l.cfg.Sysctl.Read(ctx, names)
			if errors.Is(err, os.ErrNotExist) {
				err = nil // making it will say so
			}
			return maps.All(values), err
		},
		Do: l.cfg.Sysctl.Do, MayAdd: l.maySet,
		Add: func(name, value string, _ bool) sysctl.Setting { return sysctl.Setting{Name: name, Value: value} },
	}
}

// forwards wants the settings of a family that has a frontend. They are kept from then on.
func (l *Loop) forwards(s *service) {
	if s == nil {
		return
	}
	for i := range s.desired.Frontends {
		family := inet.FamilyOf(s.desired.Frontends[i].Addr)
		for _, setting := range l.cfg.Forwarding[family] {
			l.settings.Want(setting.Name, setting.Value)
		}
		delete(l.cfg.Forwarding, family)
	}
}

// Titles of the two layers of the routing: what packets need before frontends are turned on, and the addresses of bind mode, which
// come behind the sets that reject what no frontend claims there.
const (
	vipsTitle  = "vips"
	boundTitle = "addresses"
)

func (l *Loop) vipLayer(title string, table *delta.Table[vip.Item, netip.Addr]) *reconcile.TableLayer[vip.Item, netip.Addr, vip.Op] {
	return &reconcile.TableLayer[vip.Item, netip.Addr, vip.Op]{
		Title: title, Table: table, Compare: vip.Item.Compare, Count: l.count.layer(title), MayAdd: l.mayDeliver, Quiet: l.isGivenUp,
		Read: func(ctx context.Context) (iter.Seq2[vip.Item, netip.Addr], error) {
			items, err := l.readVIPs(ctx)
			return func(yield func(vip.Item, netip.Addr) bool) {
				for i, source := range items {
					if (i.Kind == vip.Address) == (title == boundTitle) && !yield(i, source) {
						return
					}
				}
			}, err
		},
		Do: l.doVIPs,
		Add: func(i vip.Item, source netip.Addr, _ bool) vip.Op {
			return vip.Op{Verb: vip.Add, Item: i, Source: source}
		},
		Del: func(i vip.Item) vip.Op { return vip.Op{Verb: vip.Del, Item: i} },
	}
}

// readVIPs reads the routing, once for both of its layers.
func (l *Loop) readVIPs(ctx context.Context) (vip.Items, error) {
	if l.readItems == nil {
		items, err := l.cfg.VIP.Read(ctx)
		if err != nil {
			return nil, err
		}
		l.readItems = items
	}
	return l.readItems, nil
}

// membersLayer is the layer of one set's members. A set that is missing, or of another definition, has none.
func (l *Loop) membersLayer(set ipset.Set, mayAdd, mayDel func(ipset.Member) bool) reconcile.Layer {
	t := &reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op]{
		Title: "set " + set.Name, Table: l.tables.members[set.Name], Compare: ipset.Member.Compare,
		Count: l.count.layer("set " + set.Name), MayAdd: mayAdd, MayDel: mayDel,
		Read: func(ctx context.Context) (iter.Seq2[ipset.Member, ipset.Mark], error) {
			members, err := l.cfg.Sets.Read(ctx, set)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
				members, err = nil, nil
			}
			return maps.All(members), err
		},
		Do: l.cfg.Sets.Do,
		Add: func(m ipset.Member, mark ipset.Mark, _ bool) ipset.Op {
			return ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark}
		},
		Del: func(m ipset.Member) ipset.Op { return ipset.Op{Verb: ipset.Del, Set: set, Member: m} },
	}
	t.With = l.setLayer
	l.members[set.Name] = t
	return t
}

func (l *Loop) serversLayer() *reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op] {
	return &reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op]{
		Title: "servers", Table: l.tables.servers, Compare: ipvs.Key.Compare, Count: l.count.layer("servers"),
		MayAdd: l.mayServe, MayDel: l.isOff,
		Read: func(ctx context.Context) (iter.Seq2[ipvs.Key, ipvs.Server], error) {
			table, err := l.readTable(ctx)
			return func(yield func(ipvs.Key, ipvs.Server) bool) {
				for k, e := range table {
					if !yield(k, e.Server) {
						return
					}
				}
			}, err
		},
		Do: l.doServers,
		Add: func(k ipvs.Key, s ipvs.Server, there bool) ipvs.Op {
			if there {
				return ipvs.Op{Verb: ipvs.SetServer, Key: k, Server: s}
			}
			return ipvs.Op{Verb: ipvs.AddServer, Key: k, Server: s}
		},
		Del: func(k ipvs.Key) ipvs.Op { return ipvs.Op{Verb: ipvs.DelServer, Key: k} },
	}
}

// doServers carries out changes to virtual servers. With a server the kernel removes its real servers, and what flows
// to it is stale.
func (l *Loop) doServers(ctx context.Context, ops []ipvs.Op) []error {
	errs := l.cfg.IPVS.Do(ctx, ops)
	gone := map[ipvs.Key]struct{}{}
	for i, op := range ops {
		switch op.Verb {
		case ipvs.AddServer:
			l.noteMade(ctx, op.Key, reconcile.ErrorAt(errs, i))
		case ipvs.DelServer: // whatever the answer, which may be lost
			l.flows.add(l.trackedAs(op.Key))
		}
		if reconcile.ErrorAt(errs, i) != nil {
			continue
		}
		if op.Verb == ipvs.DelServer {
			gone[op.Key] = struct{}{}
		}
		l.made += made(op)
	}
	for k := range gone {
		l.tables.servers.Forget(k)
		l.tables.forgetAlias(k)
	}
	l.passOn()
	if len(gone) > 0 {
		for k := range l.tables.reals.Extra() {
			if _, ok := gone[k.Server]; ok {
				l.tables.reals.Forget(k)
			}
		}
	}
	return errs
}

// made is what an op changes in how many IPv4 virtual servers there are.
func made(op ipvs.Op) int {
	switch {
	case !op.Key.Addr.Is4():
	case op.Verb == ipvs.AddServer:
		return 1
	case op.Verb == ipvs.DelServer:
		return -1
	}
	return 0
}

// errLedgerUnread says that it is not known whose virtual servers are.
var errLedgerUnread = errors.New("which of them are ours could not be read")

// readTable reads the virtual servers that are ours: those that the ledger names, or whose address lies in a service CIDR.
// Everything else is foreign and is not seen.
func (l *Loop) readTable(ctx context.Context) (ipvs.Table, error) {
	if l.read != nil {
		return l.read, nil
	}
	if l.ledgersUnread() {
		return nil, errLedgerUnread
	}
	table, err := l.cfg.IPVS.Read(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(table, func(k ipvs.Key, _ ipvs.Entry) bool { return !l.isOurs(k) })
	l.read = table
	return table, nil
}

func (l *Loop) ledgersUnread() bool {
	for _, sets := range l.tables.families {
		if l.members[sets.Owned.Name].Unknown() {
			return true
		}
	}
	return false
}

// mayServe reports whether a virtual server may be made: it is in the ledger, so that whoever comes after us knows it.
func (l *Loop) mayServe(k ipvs.Key) bool {
	return l.members[l.tables.sets(k.Addr).Owned.Name].Present(ipvsmode.MemberOf(k))
}

// isOff reports whether no packets are on their way to a virtual server: its frontend is off, or the frontend whose alias it is sends
// none there.
func (l *Loop) isOff(k ipvs.Key) bool {
	sets := l.tables.sets(k.Addr)
	if of, ok := l.tables.aliasOf(k); ok {
		return l.members[sets.Internal.Name].Absent(ipvsmode.MemberOf(of))
	}
	return l.members[sets.Frontends.Name].Absent(ipvsmode.MemberOf(k))
}

// mayTurnOn reports whether all stands that a frontend needs and others do not. A guard that it does not need any more stands
// in nobody's way for long: it goes in the same turn.
func (l *Loop) mayTurnOn(s ipvsmode.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		_, ranged := l.tables.members[s.Ranged.Name].Wanted(m)
		return l.serverLayer.Present(ipvsmode.MemberKey(m)) && (!ranged || l.members[s.Ranged.Name].Present(m))
	}
}

// mayDeliver reports whether packets for an item may be delivered to this host: what no frontend claims there is rejected by now, and
// does not reach what listens on all addresses of the node. Diverted frontends are claimed one by one.
func (l *Loop) mayDeliver(i vip.Item) bool {
	if i.Kind != vip.Local && i.Kind != vip.Address {
		return true
	}
	a := i.Prefix.Addr()
	return l.members[l.tables.sets(a).Local.Name].Present(ipset.Member{Other: i.Prefix}) && l.ruled(inet.FamilyOf(a))
}

// isUnbound reports whether a network is not delivered to this host any more.
func (l *Loop) isUnbound(m ipset.Member) bool {
	return l.routes.Absent(vip.Item{Kind: vip.Local, Prefix: m.Other}) && l.addresses.Absent(vip.Item{Kind: vip.Address, Prefix: m.Other})
}

// aliasServes says that the alias of a frontend can be used.
func (l *Loop) aliasServes(m ipset.Member) bool {
	k := ipvsmode.MemberKey(m)
	k.Addr = ipvsmode.Alias(k.Addr)
	return l.serverLayer.Present(k)
}

// isFrontend says that a frontend is on, and its packets may be diverted.
func (l *Loop) isFrontend(s ipvsmode.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		return l.members[s.Frontends.Name].Present(m)
	}
}

// isNotDiverted reports whether a frontend's packets are not diverted, or not any more.
func (l *Loop) isNotDiverted(s ipvsmode.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool { return l.members[s.External.Name].Absent(m) }
}

// servedNoMore reports whether a line of the ledger has nothing left to say.
func (l *Loop) servedNoMore(m ipset.Member) bool { return l.serverLayer.Absent(ipvsmode.MemberKey(m)) }

// offOrOpen reports whether a frontend's guard may go: it is off, or open to all by now.
func (l *Loop) offOrOpen(s ipvsmode.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		on := l.members[s.Frontends.Name]
		_, wanted := on.Table.Wanted(m)
		return on.Absent(m) || wanted && !on.Unknown()
	}
}
