package ipvsmode

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
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

// layersOf returns the layers in the order in which they are ensured. From the frontends up, a packet's way is ready
// before it is opened: settings, sets, rules, what guards a frontend, link, routes and addresses, its servers, and at
// last the member that turns it on. Pruning goes the other way.
func (d *Dataplane) layersOf() reconcile.Stack {
	d.setLayer = d.setsLayer()
	d.settingLayer = d.settingsLayer()
	layers := reconcile.Stack{d.settingLayer, d.setLayer}
	var on reconcile.Stack
	for _, f := range d.cfg.Families {
		s := d.tables.families[f]
		layers = append(layers, d.membersLayer(s.Owned, nil, d.servedNoMore))
		d.members[s.Owned.Name].Do = d.doOwned
		// Networks stand before packets for them are delivered here, so that nothing that listens on the node gets any.
		layers = append(layers, d.membersLayer(s.Local, nil, d.isUnbound))
		for _, set := range []ipset.Set{s.Addresses, s.Allowed, s.Hairpins, s.Health} {
			layers = append(layers, d.membersLayer(set, nil, nil))
		}
		layers = append(layers, d.membersLayer(s.Ranged, nil, d.offOrOpen(s)))
		d.rules = append(d.rules, d.rulesLayer(f))
		layers = append(layers, d.rules[len(d.rules)-1])
		on = append(on,
			d.membersLayer(s.Rejected, nil, nil),
			d.membersLayer(s.Frontends, d.mayTurnOn(s), d.isNotDiverted(s)),
			d.membersLayer(s.Internal, d.aliasServes, nil),
			d.membersLayer(s.External, d.isFrontend(s), nil))
		frontends := d.members[s.Frontends.Name]
		frontends.Do, frontends.Ready = d.doFrontends, func() bool { return d.stands(f) }
	}
	d.flows, d.serverLayer, d.realLayer = d.flowsLayer(), d.serversLayer(), d.realsLayer()
	d.serverLayer.With, d.realLayer.With = d.realLayer, d.serverLayer // one table in the kernel
	d.routes, d.addresses = d.vipLayer(vipsTitle, d.tables.vips), d.vipLayer(boundTitle, d.tables.bound)
	layers = append(layers, d.routes, d.flows, d.serverLayer, d.realLayer)
	return append(append(layers, on...), d.addresses)
}

func (d *Dataplane) settingsLayer() *reconcile.TableLayer[string, string, sysctl.Setting] {
	return &reconcile.TableLayer[string, string, sysctl.Setting]{
		Title: "settings", Table: d.settings, Compare: strings.Compare, Count: d.count.layer("settings"),
		Read: func(ctx context.Context) (iter.Seq2[string, string], error) {
			var names []string
			for name := range d.settings.Wants() {
				names = append(names, name)
			}
			values, err := d.cfg.Sysctl.Read(ctx, names)
			if errors.Is(err, os.ErrNotExist) {
				err = nil // making it will say so
			}
			return maps.All(values), err
		},
		Do: d.cfg.Sysctl.Do, MayAdd: d.maySet,
		Add: func(name, value string, _ bool) sysctl.Setting { return sysctl.Setting{Name: name, Value: value} },
	}
}

// forward wants the settings of a family that has a frontend. They are kept from then on.
func (d *Dataplane) forward(fe *plan.Frontend) {
	family := inet.FamilyOf(fe.Addr)
	if _, kept := d.forwarding[family]; kept {
		return
	}
	d.forwarding[family] = struct{}{}
	for _, setting := range d.cfg.Forwarding[family] {
		d.settings.Want(setting.Name, setting.Value)
	}
}

// Titles of the two layers of the routing: what packets need before frontends are turned on, and the addresses of bind mode, which
// come behind the sets that reject what no frontend claims there.
const (
	vipsTitle  = "vips"
	boundTitle = "addresses"
)

func (d *Dataplane) vipLayer(title string, table *delta.Table[vip.Item, netip.Addr]) *reconcile.TableLayer[vip.Item, netip.Addr, vip.Op] {
	return &reconcile.TableLayer[vip.Item, netip.Addr, vip.Op]{
		Title: title, Table: table, Compare: vip.Item.Compare, Count: d.count.layer(title), MayAdd: d.mayDeliver, Quiet: d.isGivenUp,
		Read: func(ctx context.Context) (iter.Seq2[vip.Item, netip.Addr], error) {
			items, err := d.readVIPs(ctx)
			return func(yield func(vip.Item, netip.Addr) bool) {
				for i, source := range items {
					if (i.Kind == vip.Address) == (title == boundTitle) && !yield(i, source) {
						return
					}
				}
			}, err
		},
		Do: d.doVIPs,
		Add: func(i vip.Item, source netip.Addr, _ bool) vip.Op {
			return vip.Op{Verb: vip.Add, Item: i, Source: source}
		},
		Del: func(i vip.Item) vip.Op { return vip.Op{Verb: vip.Del, Item: i} },
	}
}

// readVIPs reads the routing, once for both of its layers.
func (d *Dataplane) readVIPs(ctx context.Context) (vip.Items, error) {
	if d.readItems == nil {
		items, err := d.cfg.VIP.Read(ctx)
		if err != nil {
			return nil, err
		}
		d.readItems = items
	}
	return d.readItems, nil
}

// membersLayer is the layer of one set's members. A set that is missing, or of another definition, has none.
func (d *Dataplane) membersLayer(set ipset.Set, mayAdd, mayDel func(ipset.Member) bool) reconcile.Layer {
	t := &reconcile.TableLayer[ipset.Member, ipset.Mark, ipset.Op]{
		Title: "set " + set.Name, Table: d.tables.members[set.Name], Compare: ipset.Member.Compare,
		Count: d.count.layer("set " + set.Name), MayAdd: mayAdd, MayDel: mayDel,
		Read: func(ctx context.Context) (iter.Seq2[ipset.Member, ipset.Mark], error) {
			members, err := d.cfg.Sets.Read(ctx, set)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
				members, err = nil, nil
			}
			return maps.All(members), err
		},
		Do: d.cfg.Sets.Do,
		Add: func(m ipset.Member, mark ipset.Mark, _ bool) ipset.Op {
			return ipset.Op{Verb: ipset.Add, Set: set, Member: m, Mark: mark}
		},
		Del: func(m ipset.Member) ipset.Op { return ipset.Op{Verb: ipset.Del, Set: set, Member: m} },
	}
	t.With = d.setLayer
	d.members[set.Name] = t
	return t
}

func (d *Dataplane) serversLayer() *reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op] {
	return &reconcile.TableLayer[ipvs.Key, ipvs.Server, ipvs.Op]{
		Title: "servers", Table: d.tables.servers, Compare: ipvs.Key.Compare, Count: d.count.layer("servers"),
		MayAdd: d.mayServe, MayDel: d.isOff,
		Read: func(ctx context.Context) (iter.Seq2[ipvs.Key, ipvs.Server], error) {
			table, err := d.readTable(ctx)
			return func(yield func(ipvs.Key, ipvs.Server) bool) {
				for k, e := range table {
					if !yield(k, e.Server) {
						return
					}
				}
			}, err
		},
		Do: d.doServers,
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
func (d *Dataplane) doServers(ctx context.Context, ops []ipvs.Op) []error {
	errs := d.cfg.IPVS.Do(ctx, ops)
	gone := map[ipvs.Key]struct{}{}
	for i, op := range ops {
		switch op.Verb {
		case ipvs.AddServer:
			d.noteMade(ctx, op.Key, reconcile.ErrorAt(errs, i))
		case ipvs.DelServer: // whatever the answer, which may be lost
			d.flows.add(d.trackedAs(op.Key))
		}
		if reconcile.ErrorAt(errs, i) != nil {
			continue
		}
		if op.Verb == ipvs.DelServer {
			gone[op.Key] = struct{}{}
		}
		d.made += made(op)
	}
	for k := range gone {
		d.tables.servers.Forget(k)
		d.tables.forgetAlias(k)
	}
	if len(gone) > 0 {
		for k := range d.tables.reals.Extra() {
			if _, ok := gone[k.Server]; ok {
				d.tables.reals.Forget(k)
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
func (d *Dataplane) readTable(ctx context.Context) (ipvs.Table, error) {
	if d.read != nil {
		return d.read, nil
	}
	if d.ledgersUnread() {
		return nil, errLedgerUnread
	}
	table, err := d.cfg.IPVS.Read(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(table, func(k ipvs.Key, _ ipvs.Entry) bool { return !d.isOurs(k) })
	d.read = table
	return table, nil
}

func (d *Dataplane) ledgersUnread() bool {
	for _, sets := range d.tables.families {
		if d.members[sets.Owned.Name].Unknown() {
			return true
		}
	}
	return false
}

// mayServe reports whether a virtual server may be made: it is in the ledger, so that whoever comes after us knows it.
func (d *Dataplane) mayServe(k ipvs.Key) bool {
	return d.members[d.tables.sets(k.Addr).Owned.Name].Present(MemberOf(k))
}

// isOff reports whether no packets are on their way to a virtual server: its frontend is off, or the frontend whose alias it is sends
// none there.
func (d *Dataplane) isOff(k ipvs.Key) bool {
	sets := d.tables.sets(k.Addr)
	if of, ok := d.tables.aliasOf(k); ok {
		return d.members[sets.Internal.Name].Absent(MemberOf(of))
	}
	return d.members[sets.Frontends.Name].Absent(MemberOf(k))
}

// mayTurnOn reports whether all stands that a frontend needs and others do not. A guard that it does not need any more stands
// in nobody's way for long: it goes in the same turn.
func (d *Dataplane) mayTurnOn(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		_, ranged := d.tables.members[s.Ranged.Name].Wanted(m)
		return d.serverLayer.Present(MemberKey(m)) && (!ranged || d.members[s.Ranged.Name].Present(m))
	}
}

// mayDeliver reports whether packets for an item may be delivered to this host: what no frontend claims there is rejected by now, and
// does not reach what listens on all addresses of the node. Diverted frontends are claimed one by one.
func (d *Dataplane) mayDeliver(i vip.Item) bool {
	if i.Kind != vip.Local && i.Kind != vip.Address {
		return true
	}
	a := i.Prefix.Addr()
	return d.members[d.tables.sets(a).Local.Name].Present(ipset.Member{Other: i.Prefix}) && d.ruled(inet.FamilyOf(a))
}

// isUnbound reports whether a network is not delivered to this host any more.
func (d *Dataplane) isUnbound(m ipset.Member) bool {
	return d.routes.Absent(vip.Item{Kind: vip.Local, Prefix: m.Other}) && d.addresses.Absent(vip.Item{Kind: vip.Address, Prefix: m.Other})
}

// aliasServes says that the alias of a frontend can be used.
func (d *Dataplane) aliasServes(m ipset.Member) bool {
	k := MemberKey(m)
	k.Addr = Alias(k.Addr)
	return d.serverLayer.Present(k)
}

// isFrontend says that a frontend is on, and its packets may be diverted.
func (d *Dataplane) isFrontend(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		return d.members[s.Frontends.Name].Present(m)
	}
}

// isNotDiverted reports whether a frontend's packets are not diverted, or not any more.
func (d *Dataplane) isNotDiverted(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool { return d.members[s.External.Name].Absent(m) }
}

// servedNoMore reports whether a line of the ledger has nothing left to say.
func (d *Dataplane) servedNoMore(m ipset.Member) bool { return d.serverLayer.Absent(MemberKey(m)) }

// offOrOpen reports whether a frontend's guard may go: it is off, or open to all by now.
func (d *Dataplane) offOrOpen(s Sets) func(ipset.Member) bool {
	return func(m ipset.Member) bool {
		on := d.members[s.Frontends.Name]
		_, wanted := on.Table.Wanted(m)
		return on.Absent(m) || wanted && !on.Unknown()
	}
}
