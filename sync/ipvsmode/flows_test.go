package ipvsmode

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/sync/plan"
)

// A udpRig has a UDP Service with a client of each of its endpoints 1 and 2.
type udpRig struct {
	*rig
	flows *conntrack.Fake
	at    netip.AddrPort // the frontend
	edits []func(*plan.Service)
	stop  func()
}

func newUDPRig(t *testing.T, at string, endpoints []plan.Endpoint, edits ...func(*plan.Service)) *udpRig {
	r := &udpRig{rig: newRig(t), at: netip.MustParseAddrPort(at), edits: append(edits, udp)}
	r.node.Zone = "a"
	r.tweak = func(d *Dataplane) { r.flows = d.cfg.Flows.(*conntrack.Fake) }
	r.list(endpoints)
	r.stop = r.start()
	r.queue.Synced()
	synctest.Wait()
	for n := range byte(2) {
		r.flows.Add(conntrack.Flow{
			Proto: inet.UDP, Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 4000+uint16(n)), Frontend: r.at, Endpoint: udpEndpoint(n + 1),
		})
	}
	return r
}

func udpEndpoint(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, n}), 8080)
}

func (r *udpRig) list(endpoints []plan.Endpoint) plan.Name {
	name := r.set(1, endpoints, r.edits...)
	r.slices[name][0].Ports[0].Proto = inet.UDP
	return name
}

func (r *udpRig) then(endpoints []plan.Endpoint) {
	r.queue.ServiceChanged(r.list(endpoints))
	synctest.Wait()
}

// connect gives the real server of endpoint 1 a connection, which IPVS calls inactive.
func (r *udpRig) connect() {
	r.t.Helper()
	if err := r.ipvs.SetConnections(ipvs.RealKeyOf(ipvs.AddrKey(inet.UDP, r.at), udpEndpoint(1)), 0, 1); err != nil {
		r.t.Fatal(err)
	}
}

// check checks the weight of endpoint 1, -1 without a real server, and whether its client's flow is there. That of endpoint 2 is always.
func (r *udpRig) check(when string, weight int, flow bool) {
	r.t.Helper()
	got := -1
	if real, ok := r.ipvs.Table()[ipvs.AddrKey(inet.UDP, r.at)].Reals[udpEndpoint(1)]; ok {
		got = int(real.Weight)
	}
	to := func(n byte) bool {
		return slices.ContainsFunc(r.flows.Flows(), func(f conntrack.Flow) bool { return f.Endpoint == udpEndpoint(n) })
	}
	if got != weight || to(1) != flow || !to(2) {
		r.t.Errorf("%s: weight %d, want %d; the flow is there: %v, want %v; the other's: %v, want true", when, got, weight, to(1), flow, to(2))
	}
}

// with returns endpoints 1 and 2, the first as it is made.
func with(edit func(*plan.Endpoint)) []plan.Endpoint {
	out := pods(1, 2)
	edit(&out[0])
	return out
}

func terminates(e *plan.Endpoint) { e.Ready, e.Terminating = false, true }
func fails(e *plan.Endpoint)      { e.Ready, e.Serving = false, false }
func dies(e *plan.Endpoint)       { e.Ready, e.Serving, e.Terminating = false, false, true }

// hinted returns endpoints 1 and 2, hinted for another zone and for this one.
func hinted() []plan.Endpoint {
	out := pods(1, 2)
	out[0].ZoneHints, out[1].ZoneHints = []string{"b"}, []string{"a"}
	return out
}

// Flows of UDP stay with an endpoint that serves, whether it gets new ones or not, and end at once when it serves no more.
func TestUDPDrains(t *testing.T) {
	for _, tt := range []struct {
		name         string
		leaves, ends []plan.Endpoint
	}{
		{"terminates, and serves no more", with(terminates), with(dies)},
		{"terminates, and is removed", with(terminates), pods(2)},
		{"is hinted elsewhere, and fails", hinted(), with(fails)},
		{"is hinted elsewhere, and is removed", hinted(), pods(2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newUDPRig(t, "10.96.0.1:80", pods(1, 2))
				r.connect()
				r.then(tt.leaves)
				r.check("it leaves", 0, true)
				time.Sleep(24 * time.Hour)
				r.check("a day later", 0, true)
				time.Sleep(drainInterval / 2)
				r.then(tt.ends)
				r.check("it serves no more", -1, false)
				if n := r.metric("kube_ipvs_draining_real_servers").GetGauge().GetValue(); n != 0 {
					t.Errorf("%v drain, want 0", n)
				}
				r.then(pods(1, 2))
				r.check("it is back", 1, false)
			})
		})
	}
}

// One that fails or is removed ends at once without having drained, and one that serves again is one change of weight.
func TestUDPEndsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		then   []plan.Endpoint
		weight int
		flow   bool
	}{
		{"fails", with(fails), -1, false},
		{"is removed", pods(2), -1, false},
		{"terminates", with(terminates), 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newUDPRig(t, "10.96.0.1:80", pods(1, 2))
				r.connect()
				r.then(tt.then)
				r.check(tt.name, tt.weight, tt.flow)
				r.take()
				r.then(pods(1, 2))
				r.check("it is back", 1, tt.flow)
			})
		})
	}
}

// A real server without connections goes, and its endpoint's flows stay: conntrack alone may have some. They end with the endpoint.
func TestUDPFlowsWithoutARealServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newUDPRig(t, "10.96.0.1:80", pods(1, 2))
		r.then(hinted())
		r.check("hinted elsewhere", -1, true)
		r.then(with(terminates))
		r.check("it terminates", -1, true)
		r.then(pods(2))
		r.check("it is removed", -1, false)
	})
	synctest.Test(t, func(t *testing.T) { // of an alias
		endpoints := func(edit func(*plan.Endpoint)) []plan.Endpoint {
			out := append(with(edit), pods(3)...)
			out[1].Node = "node1"
			return out
		}
		r := newUDPRig(t, "198.18.0.1:80", endpoints(func(*plan.Endpoint) {}), atAddress("198.18.0.1"))
		r.check("at the start", -1, true)
		r.then(endpoints(terminates))
		r.check("it terminates", -1, true)
		r.then(endpoints(dies))
		r.check("it serves no more", -1, false)
	})
}

// A restart keeps what drains, and ends what ended while nobody looked.
func TestUDPDrainsOverARestart(t *testing.T) {
	for _, ended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newUDPRig(t, "10.96.0.1:80", pods(1, 2))
			r.connect()
			r.then(with(terminates))
			r.stop()
			flows := r.flows
			r.tweak = func(d *Dataplane) { d.cfg.Flows, d.flows.kernel, r.flows = flows, flows, flows }
			if ended {
				r.list(with(dies))
			}
			r.start()
			r.queue.Synced()
			synctest.Wait()
			if ended {
				r.check("ended meanwhile", -1, false)
			} else {
				r.check("it still drains", 0, true)
			}
		})
	}
}

// What a client sends over UDP is tracked as it was sent, to the frontend: those flows are looked at when its alias loses a real server.
func TestFlowsOfAnAlias(t *testing.T) {
	frontend := netip.MustParseAddrPort("198.18.0.1:80")
	v4 := func(n byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, n}), 8080) }
	for _, tt := range []struct {
		name string
		then func(r *rig, change func(...plan.Endpoint))
		keep []netip.AddrPort // nil: flows are not looked at
	}{
		{"it gets one more", func(_ *rig, change func(...plan.Endpoint)) { change(append(hereAndElsewhere(), pods(3)...)...) }, nil},
		{"it loses one", func(_ *rig, change func(...plan.Endpoint)) { change(append(hereAndElsewhere()[1:], pods(3)...)...) }, []netip.AddrPort{v4(1), v4(3)}},
		{"it goes at once", func(_ *rig, change func(...plan.Endpoint)) { change(hereAndElsewhere()[1:]...) }, []netip.AddrPort{v4(1)}},
		{"its Service goes", func(r *rig, _ func(...plan.Endpoint)) { r.remove(1) }, []netip.AddrPort{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var flows *conntrack.Fake
				r.tweak = func(l *Dataplane) { flows = l.cfg.Flows.(*conntrack.Fake) }
				set := func(endpoints ...plan.Endpoint) plan.Name {
					name := r.set(1, endpoints, atAddress("198.18.0.1"), udp)
					r.slices[name][0].Ports[0].Proto = inet.UDP
					return name
				}
				set(hereAndElsewhere()...)
				r.start()
				r.queue.Synced()
				synctest.Wait()
				before := len(flows.Calls())
				tt.then(r, func(endpoints ...plan.Endpoint) { r.queue.ServiceChanged(set(endpoints...)) })
				synctest.Wait()
				var keep []netip.AddrPort
				for _, call := range flows.Calls()[before:] {
					for _, f := range call {
						if f.At == frontend {
							keep = slices.SortedFunc(maps.Keys(f.Keep), netip.AddrPort.Compare)
							keep = append([]netip.AddrPort{}, keep...)
						}
						if inet.AliasRange(inet.IPv4).Contains(f.At.Addr()) {
							t.Errorf("flows to the alias %v, which nobody is tracked as sending to", f.At)
						}
					}
				}
				if diff := cmp.Diff(fmt.Sprintf("%v %t", tt.keep, tt.keep == nil), fmt.Sprintf("%v %t", keep, keep == nil)); diff != "" {
					t.Errorf("keeps (-want +got):\n%s", diff)
				}
			})
		})
	}
}
