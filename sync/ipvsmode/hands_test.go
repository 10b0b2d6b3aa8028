package ipvsmode

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// changeService makes a Service another one, or removes it, and returns its name. Few addresses and ports are shared by all.
func (h *history) changeService(n int) plan.Name {
	name := plan.Name{Namespace: "default", Name: fmt.Sprintf("s%05d", n)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.IntN(5) == 0 {
		delete(h.services, name)
		delete(h.slices, name)
		return name
	}
	svc := h.randomService(name)
	h.services[name], h.slices[name] = svc, h.randomSlices(svc)
	return name
}

func (h *history) randomService(name plan.Name) plan.Service {
	svc := plan.Service{
		Name: name, UID: fmt.Sprint(h.IntN(3)), Created: time.Unix(int64(h.IntN(4)), 0),
		ClusterIPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(h.IntN(5))})},
		InternalLocal: h.IntN(3) == 0, ExternalLocal: h.IntN(2) == 0,
	}
	if h.IntN(2) == 0 {
		svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%d", 1+h.IntN(4))))
	}
	for range h.IntN(3) {
		svc.ExternalIPs = append(svc.ExternalIPs, h.externalAddr())
	}
	for range h.IntN(2) {
		svc.LoadBalancerIPs = append(svc.LoadBalancerIPs, h.externalAddr())
	}
	if h.IntN(4) == 0 {
		svc.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	}
	if h.IntN(3) == 0 {
		svc.Affinity = time.Duration(1+h.IntN(2)) * time.Hour
	}
	if svc.ExternalLocal && h.IntN(2) == 0 {
		svc.HealthCheckNodePort = uint16(32000 + h.IntN(3))
	}
	for i := range 1 + h.IntN(3) {
		p := plan.Port{Name: fmt.Sprint("p", i), Proto: h.proto(), Port: uint16(80 + h.IntN(3))}
		if h.IntN(2) == 0 {
			p.NodePort = uint16(30000 + h.IntN(3))
		}
		if !slices.ContainsFunc(svc.Ports, func(o plan.Port) bool { return o.Proto == p.Proto && o.Port == p.Port }) {
			svc.Ports = append(svc.Ports, p)
		}
	}
	return svc
}

// externalAddr is an external address, now and then one that is another's cluster IP.
func (h *history) externalAddr() netip.Addr {
	if h.IntN(8) == 0 {
		return netip.AddrFrom4([4]byte{10, 96, 0, byte(h.IntN(5))})
	}
	return netip.AddrFrom4([4]byte{198, 18, 0, byte(h.IntN(3))})
}

func (h *history) proto() inet.Protocol {
	return []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}[h.IntN(3)]
}

func (h *history) randomSlices(svc plan.Service) (out []plan.Slice) {
	for i := range h.IntN(4) {
		s := plan.Slice{Service: svc.Name, Endpoints: h.randomEndpoints(i%2 == 1)}
		for _, p := range svc.Ports {
			s.Ports = append(s.Ports, plan.SlicePort{Name: p.Name, Proto: p.Proto, Port: uint16(8080 + h.IntN(2))})
		}
		out = append(out, s)
	}
	return out
}

func (h *history) randomEndpoints(v6 bool) (out []plan.Endpoint) {
	for range h.IntN(5) {
		n := h.IntN(6)
		a := netip.AddrFrom4([4]byte{10, 244, 0, byte(n)})
		if v6 {
			a = netip.MustParseAddr(fmt.Sprintf("fd00::%d", n+1))
		}
		e := plan.Endpoint{Addr: a, Node: []string{"node1", "node2", ""}[h.IntN(3)], Ready: h.IntN(3) > 0}
		e.Serving = e.Ready || h.IntN(2) == 0
		e.Terminating = !e.Ready && h.IntN(2) == 0
		out = append(out, e)
	}
	return out
}

// killed ends the loop before one of its next operations, and starts another one. What changes meanwhile nobody sees.
func (h *history) killed() loop.Changed {
	left, refuse := h.IntN(20), h.rig.refuse
	h.let(func(what string) error {
		if left--; left < 0 {
			return errRefused
		}
		if refuse == nil {
			return nil
		}
		return refuse(what)
	})
	for range 1 + h.IntN(3) {
		h.queue.ServiceChanged(h.changeService(h.IntN(services)))
	}
	synctest.Wait()
	h.stop()
	for range h.IntN(3) {
		h.changeService(h.IntN(services))
	}
	h.let(refuse)
	h.begin()
	return 0
}

// serversGo removes some of our virtual servers by hand.
func (h *history) serversGo() loop.Changed {
	for _, k := range h.sortedServers() {
		if !h.foreign[k] && h.IntN(3) == 0 {
			h.ipvs.Do(h.t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: k}})
		}
	}
	return loop.Kernel
}

func (h *history) sortedServers() []ipvs.Key {
	return slices.SortedFunc(maps.Keys(h.ipvs.Table()), ipvs.Key.Compare)
}

// membersGo removes members of sets by hand, but lines of the ledger: whose what they name is then nobody can tell.
func (h *history) membersGo() loop.Changed {
	for _, f := range h.families {
		for _, set := range SetsOf(f).All() {
			if set.Name == SetsOf(f).Owned.Name {
				continue
			}
			for _, m := range slices.SortedFunc(maps.Keys(h.membersOf(set)), ipset.Member.Compare) {
				if h.IntN(3) == 0 {
					h.sets.Do(h.t.Context(), []ipset.Op{{Verb: ipset.Del, Set: set, Member: m}})
				}
			}
		}
	}
	return loop.Kernel
}

// setGoes destroys one by hand.
func (h *history) setGoes() loop.Changed {
	f := h.families[h.IntN(len(h.families))]
	set := SetsOf(f).All()[h.IntN(len(SetsOf(f).All()))]
	if set.Name == SetsOf(f).Owned.Name {
		return 0
	}
	if err := h.sets.Destroy(h.t.Context(), set.Name); err != nil {
		h.t.Error(err)
	}
	return loop.Kernel
}

func (h *history) linkGoes() loop.Changed {
	h.steering.Do(h.t.Context(), []steering.Op{{Verb: steering.Del, Item: steering.Item{Kind: steering.Link}}})
	return loop.Routes
}

func (h *history) rulesGo() loop.Changed {
	h.rules.Change([]inet.Family{inet.IPv4, inet.IPv6}[h.IntN(2)])
	return loop.Kernel
}

// foreignComes makes a virtual server of somebody else where there is none and no line.
func (h *history) foreignComes() loop.Changed {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(h.IntN(3))}), uint16(80+h.IntN(3)))
	if h.IntN(3) == 0 {
		at = netip.AddrPortFrom(h.node.Own[0], uint16(30000+h.IntN(3)))
	}
	k := ipvs.AddrKey(h.proto(), at)
	_, there := h.ipvs.Table()[k]
	_, listed := h.membersOf(SetsOf(inet.IPv4).Owned)[MemberOf(k)]
	if !there && !listed {
		h.direct(k)
	}
	return 0
}

func (h *history) foreignGoes() loop.Changed {
	for _, k := range h.sortedServers() {
		if h.foreign[k] && h.IntN(2) == 0 {
			h.ipvs.Do(h.t.Context(), []ipvs.Op{{Verb: ipvs.DelServer, Key: k}})
			h.mu.Lock()
			delete(h.foreign, k)
			h.mu.Unlock()
		}
	}
	return 0
}

// connect gives real servers connections, or takes them away.
func (h *history) connect() {
	for _, k := range h.sortedServers() {
		for at := range h.ipvs.Table()[k].Reals {
			if !h.foreign[k] && h.IntN(3) == 0 {
				h.ipvs.SetConnections(ipvs.RealKeyOf(k, at), uint32(h.IntN(2)), uint32(h.IntN(2)))
			}
		}
	}
}

// readdress gives the node other addresses for its node ports.
func (h *history) readdress() {
	h.mu.Lock()
	h.node.Addresses = slices.Clone(h.node.Own[:h.IntN(3)])
	h.mu.Unlock()
	h.queue.Note(loop.Addresses)
}
