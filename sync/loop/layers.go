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
		layers = append(layers, l.membersLayer(s.Addresses, nil, l.isUnbound))
		for _, set := range []ipset.Set{s.Allowed, s.Hairpins, s.Probed} {
			layers = append(layers, l.membersLayer(set, nil, nil))
		}
		layers = append(layers, l.membersLayer(s.Ranged, nil, l.offOrOpen(s)))
		l.rules = append(l.rules, l.rulesLayer(f))
		layers = append(layers, l.rules[len(l.rules)-1])
		on = append(on,
			l.membersLayer(s.Inside, l.secondStands(s), nil),
			l.membersLayer(s.Frontends, l.mayTurnOn(s), nil))
		frontends := l.members[s.Frontends.Name]
		frontends.do, frontends.ready = l.doFrontends, func() bool { return l.stands(f) }
	}
	l.flows, l.serverLayer, l.realLayer = l.flowsLayer(), l.serversLayer(), l.realsLayer()
	l.serverLayer.with, l.realLayer.with = l.realLayer, l.serverLayer // one table in the kernel
	l.ways = l.vipLayer()
	return append(append(layers, l.ways, l.flows, l.serverLayer, l.realLayer), on...)
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

const vipsTitle = "vips"

func (l *Loop) vipLayer() *tableLayer[vip.Item, struct{}, vip.Op] {
	return &tableLayer[vip.Item, struct{}, vip.Op]{
		title: vipsTitle, table: l.tables.vips, compare: vip.Item.Compare, doubted: true, count: l.count.layer(vipsTitle),
		mayAdd: l.mayBind, quiet: l.isGivenUp,
		read: func(ctx context.Context) (iter.Seq2[vip.Item, struct{}], error) {
			items, err := l.cfg.VIP.Read(ctx)
			return maps.All(items), err
		},
		do:  l.doVIPs,
		add: func(i vip.Item, _ struct{}, _ bool) vip.Op { return vip.Op{Verb: vip.Add, Item: i} },
		del: func(i vip.Item) vip.Op { return vip.Op{Verb: vip.Del, Item: i} },
	}
}

// membersLayer is the layer of one set's members. A set that is missing, or of another definition, has
// none.
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
		if errs != nil && errs[i] != nil {
			continue
		}
		if op.Verb == ipvs.DelServer {
			gone[op.Key] = struct{}{}
			l.flows.add(op.Key)
		}
		l.made += made(op)
	}
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

// readTable reads the virtual servers that are ours: those that the ledger names, or whose address lies in a service
// CIDR, and those that are wanted. Everything else is a stranger's and is not seen.
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
	clear(l.strange)
	maps.DeleteFunc(table, func(k ipvs.Key, _ ipvs.Entry) bool {
		ours := l.isOurs(k)
		if !ours && k.Mark != 0 {
			l.strange[k] = struct{}{}
		}
		return !ours
	})
	l.read = table
	return table, nil
}

func (l *Loop) isOurs(k ipvs.Key) bool {
	if !l.tables.has(k.Addr) {
		return false
	}
	_, listed := l.tables.ledger(k.Addr).Known(lineOf(k))
	_, wanted := l.tables.servers.Wanted(k)
	return listed || wanted || k.Mark == 0 && l.inServiceCIDR(k.Addr)
}

func (l *Loop) ledgersUnread() bool {
	for _, sets := range l.tables.families {
		if l.members[sets.Owned.Name].unread() {
			return true
		}
	}
	return false
}

// mayServe says that a virtual server may be made: it is in the ledger, so that whoever comes after us knows it.
func (l *Loop) mayServe(k ipvs.Key) bool {
	_, listed := l.tables.ledger(k.Addr).Known(lineOf(k))
	return listed
}

// hasReals says that a virtual server that is wanted no more has real servers. The first question of a turn's pruning, when
// those that go are gone, looks at all that are left, for the others.
func (l *Loop) hasReals(k ipvs.Key) bool {
	if l.left == nil {
		l.left = map[ipvs.Key]struct{}{}
		for r := range l.tables.reals.Extra() {
			l.left[r.Server] = struct{}{}
		}
	}
	_, has := l.left[k]
	return has
}

// isOff says that no packets are on their way to a virtual server.
func (l *Loop) isOff(k ipvs.Key) bool {
	if k.Mark != 0 { // without it packets find the server of the address
		return !l.hasReals(k)
	}
	frontends := l.members[l.tables.sets(k.Addr).Frontends.Name]
	_, on := frontends.table.Known(memberOf(k))
	return !on && !frontends.unread()
}

// mayTurnOn says that all stands that a frontend needs and others do not. A guard that it does not need any more stands in
// nobody's way for long: it goes in the same turn.
func (l *Loop) mayTurnOn(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		_, served := l.tables.servers.Known(keyOf(m))
		_, ranged := l.tables.members[s.Ranged.Name].Wanted(m)
		_, guarded := l.tables.members[s.Ranged.Name].Known(m)
		return served && (guarded || !ranged)
	}
}

// mayBind says that an address may be put on the link: what no Service claims there is refused by now, and does not reach
// what listens on all addresses of the node.
func (l *Loop) mayBind(i vip.Item) bool {
	if i.Kind != vip.Address {
		return true
	}
	a := i.Prefix.Addr()
	_, refused := l.tables.members[l.tables.sets(a).Addresses.Name].Known(ipset.Member{Addr: a})
	return refused && l.ruled(ipset.FamilyOf(a))
}

// isUnbound says that an address is on the link no more.
func (l *Loop) isUnbound(m ipset.Member) bool {
	_, bound := l.tables.vips.Known(vip.Item{Kind: vip.Address, Prefix: netip.PrefixFrom(m.Addr, m.Addr.BitLen())})
	return !bound
}

// secondStands says that a second list can be used.
func (l *Loop) secondStands(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		mark, _ := l.tables.members[s.Inside.Name].Wanted(m)
		_, served := l.tables.servers.Known(ipvs.MarkKey(mark.Value, m.Addr))
		return served
	}
}

// servedNoMore says that a line of the ledger has nothing left to say.
func (l *Loop) servedNoMore(m ipset.Member) bool {
	_, known := l.tables.servers.Known(serverOf(m))
	return !known && !l.serverLayer.unread()
}

// offOrOpen says that a frontend's guard may go: it is off, or open to all by now.
func (l *Loop) offOrOpen(s plan.Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		on := l.members[s.Frontends.Name]
		_, known := on.table.Known(m)
		_, wanted := on.table.Wanted(m)
		return !on.unread() && (wanted || !known)
	}
}
