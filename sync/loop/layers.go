package loop

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"os"
	"strings"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/delta"
	"kube-ipvs/sync/plan"
)

// layersOf returns the layers in the order in which they are ensured. From the frontends up, a packet's way is ready
// before it is opened: settings, sets, rules, what guards a frontend, link, routes and addresses, its servers, and at
// last the member that turns it on. Pruning goes the other way.
func (l *Loop) layersOf() []layer {
	l.setLayer = l.setsLayer()
	l.settingLayer = l.settingsLayer()
	layers := []layer{l.settingLayer, l.setLayer}
	var on []layer
	for _, f := range l.cfg.Families {
		s := l.tables.families[f]
		layers = append(layers, l.membersLayer(s.Owned, nil, l.servedNoMore))
		l.members[s.Owned.Name].do = l.doOwned
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
			l.membersLayer(s.External, l.isFrontend(s), nil),
			// Another proxy may still serve what is not on yet.
			l.membersLayer(s.Closed, nil, nil))
		frontends := l.members[s.Frontends.Name]
		frontends.do, frontends.ready = l.doFrontends, func() bool { return l.stands(f) }
	}
	l.flows, l.serverLayer, l.realLayer = l.flowsLayer(), l.serversLayer(), l.realsLayer()
	l.serverLayer.with, l.realLayer.with = l.realLayer, l.serverLayer // one table in the kernel
	l.routes, l.addresses = l.vipLayer(vipsTitle, l.tables.vips), l.vipLayer(boundTitle, l.tables.bound)
	layers = append(layers, l.routes, l.flows, l.serverLayer, l.realLayer)
	return append(append(layers, on...), l.addresses)
}

func (l *Loop) settingsLayer() *tableLayer[string, string, sysctl.Setting] {
	return &tableLayer[string, string, sysctl.Setting]{
		title: "settings", table: l.settings, compare: strings.Compare, doubted: true, count: l.count.layer("settings"),
		read: func(ctx context.Context) (iter.Seq2[string, string], error) {
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
		do: l.cfg.Sysctl.Do, mayAdd: l.maySet,
		add: func(name, value string, _ bool) sysctl.Setting { return sysctl.Setting{Name: name, Value: value} },
	}
}

// forwards wants the settings of a family that has a frontend. They are kept from then on.
func (l *Loop) forwards(s *service) {
	if s == nil {
		return
	}
	for i := range s.fragment.Frontends {
		family := ipset.FamilyOf(s.fragment.Frontends[i].Key.Addr)
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

func (l *Loop) vipLayer(title string, table *delta.Table[vip.Item, netip.Addr]) *tableLayer[vip.Item, netip.Addr, vip.Op] {
	return &tableLayer[vip.Item, netip.Addr, vip.Op]{
		title: title, table: table, compare: vip.Item.Compare, doubted: true, count: l.count.layer(title), mayAdd: l.mayDeliver, quiet: l.isGivenUp,
		read: func(ctx context.Context) (iter.Seq2[vip.Item, netip.Addr], error) {
			items, err := l.readVIPs(ctx)
			return func(yield func(vip.Item, netip.Addr) bool) {
				for i, source := range items {
					if (i.Kind == vip.Address) == (title == boundTitle) && !yield(i, source) {
						return
					}
				}
			}, err
		},
		do: l.doVIPs,
		add: func(i vip.Item, source netip.Addr, _ bool) vip.Op {
			return vip.Op{Verb: vip.Add, Item: i, Source: source}
		},
		del: func(i vip.Item) vip.Op { return vip.Op{Verb: vip.Del, Item: i} },
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
func (l *Loop) membersLayer(set ipset.Set, mayAdd, mayDel func(ipset.Member) bool) layer {
	t := &tableLayer[ipset.Member, ipset.Mark, ipset.Op]{
		title: "set " + set.Name, table: l.tables.members[set.Name], compare: ipset.Member.Compare, doubted: true,
		count: l.count.layer("set " + set.Name), mayAdd: mayAdd, mayDel: mayDel,
		read: func(ctx context.Context) (iter.Seq2[ipset.Member, ipset.Mark], error) {
			members, err := l.cfg.Sets.Read(ctx, set)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
				members, err = nil, nil
			}
			return maps.All(members), err
		},
		do: l.cfg.Sets.Do,
		add: func(m ipset.Member, mark ipset.Mark, _ bool) ipset.Op {
			return ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark}
		},
		del: func(m ipset.Member) ipset.Op { return ipset.Op{Verb: ipset.Del, Set: set, Member: m} },
	}
	t.with = l.setLayer
	l.members[set.Name] = t
	return t
}

func (l *Loop) serversLayer() *tableLayer[ipvs.Key, ipvs.Server, ipvs.Op] {
	return &tableLayer[ipvs.Key, ipvs.Server, ipvs.Op]{
		title: "servers", table: l.tables.servers, compare: ipvs.Key.Compare, doubted: true, count: l.count.layer("servers"),
		mayAdd: l.mayServe, mayDel: l.isOff,
		read: func(ctx context.Context) (iter.Seq2[ipvs.Key, ipvs.Server], error) {
			table, err := l.readTable(ctx)
			return func(yield func(ipvs.Key, ipvs.Server) bool) {
				for k, e := range table {
					if !yield(k, e.Server) {
						return
					}
				}
			}, err
		},
		do: l.doServers,
		add: func(k ipvs.Key, s ipvs.Server, there bool) ipvs.Op {
			if there {
				return ipvs.Op{Verb: ipvs.SetServer, Key: k, Server: s}
			}
			return ipvs.Op{Verb: ipvs.AddServer, Key: k, Server: s}
		},
		del: func(k ipvs.Key) ipvs.Op { return ipvs.Op{Verb: ipvs.DelServer, Key: k} },
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
			l.noteMade(ctx, op.Key, errorAt(errs, i))
		case ipvs.DelServer: // whatever the answer, which may be lost
			l.flows.add(l.trackedAs(op.Key))
		}
		if errorAt(errs, i) != nil {
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
		if l.members[sets.Owned.Name].unread() {
			return true
		}
	}
	return false
}

// mayServe reports whether a virtual server may be made: it is in the ledger, so that whoever comes after us knows it.
func (l *Loop) mayServe(k ipvs.Key) bool {
	return l.members[l.tables.sets(k.Addr).Owned.Name].present(memberOf(k))
}

// isOff reports whether no packets are on their way to a virtual server: its frontend is off, or the frontend whose alias it is sends
// none there.
func (l *Loop) isOff(k ipvs.Key) bool {
	sets := l.tables.sets(k.Addr)
	if of, ok := l.tables.aliasOf(k); ok {
		return l.members[sets.Internal.Name].absent(memberOf(of))
	}
	return l.members[sets.Frontends.Name].absent(memberOf(k))
}

// mayTurnOn reports whether all stands that a frontend needs and others do not. A guard that it does not need any more stands
// in nobody's way for long: it goes in the same turn.
func (l *Loop) mayTurnOn(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		_, ranged := l.tables.members[s.Ranged.Name].Wanted(m)
		return l.serverLayer.present(keyOf(m)) && (!ranged || l.members[s.Ranged.Name].present(m))
	}
}

// mayDeliver reports whether packets for an item may be delivered to this host: what no frontend claims there is rejected by now, and
// does not reach what listens on all addresses of the node. Diverted frontends are claimed one by one.
func (l *Loop) mayDeliver(i vip.Item) bool {
	if i.Kind != vip.Local && i.Kind != vip.Address {
		return true
	}
	a := i.Prefix.Addr()
	return l.members[l.tables.sets(a).Local.Name].present(ipset.Member{Other: i.Prefix}) && l.ruled(ipset.FamilyOf(a))
}

// isUnbound reports whether a network is not delivered to this host any more.
func (l *Loop) isUnbound(m ipset.Member) bool {
	return l.routes.absent(vip.Item{Kind: vip.Local, Prefix: m.Other}) && l.addresses.absent(vip.Item{Kind: vip.Address, Prefix: m.Other})
}

// aliasServes says that the alias of a frontend can be used.
func (l *Loop) aliasServes(m ipset.Member) bool {
	k := keyOf(m)
	k.Addr = plan.Alias(k.Addr)
	return l.serverLayer.present(k)
}

// isFrontend says that a frontend is on, and its packets may be diverted.
func (l *Loop) isFrontend(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		return l.members[s.Frontends.Name].present(m)
	}
}

// isNotDiverted reports whether a frontend's packets are not diverted, or not any more.
func (l *Loop) isNotDiverted(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool { return l.members[s.External.Name].absent(m) }
}

// servedNoMore reports whether a line of the ledger has nothing left to say.
func (l *Loop) servedNoMore(m ipset.Member) bool { return l.serverLayer.absent(keyOf(m)) }

// offOrOpen reports whether a frontend's guard may go: it is off, or open to all by now.
func (l *Loop) offOrOpen(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		on := l.members[s.Frontends.Name]
		_, wanted := on.table.Wanted(m)
		return on.absent(m) || wanted && !on.unread()
	}
}
