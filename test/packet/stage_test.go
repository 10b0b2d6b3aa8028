//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A stage is a world with a proxy and one Service in it, whose endpoints come and go.
type stage struct {
	*world
	*proxy
	t     *testing.T
	usual ipvsmode.Config
	plays int // how many Services there were
	svc   plan.Service
	proto inet.Protocol
	ops   *recorder
}

// newStage starts a proxy that nobody uses yet.
func newStage(t *testing.T, s setup) *stage {
	t.Helper()
	st := &stage{world: newWorld(t, lab.Config{}), t: t}
	st.proxy = start(t, s)
	st.ops = &recorder{Kernel: st.cfg.IPVS}
	st.cfg.IPVS = st.ops
	st.usual = st.cfg
	return st
}

// play runs a test with a new loop and a new Service, whose endpoints are all ready. The edits change both before.
func (st *stage) play(name string, proto inet.Protocol, test func(*stage), edits ...func(*stage)) {
	parent := st.t
	parent.Run(name, func(t *testing.T) {
		defer func(before *testing.T) { st.t, st.proxy.t, st.world.t = parent, before, before }(st.proxy.t)
		st.t, st.proxy.t, st.world.t = t, t, t
		st.plays++
		st.proto, st.svc = proto, service(st.plays, proto)
		st.cfg = st.usual
		st.cfg.Settings = slices.Clone(st.usual.Settings)
		for _, edit := range edits {
			edit(st)
		}
		st.again()
		st.endpoints(allReady...)
		test(st)
		st.remove(st.svc.Name)
		st.settle()
	})
}

func (st *stage) must(err error) {
	if err != nil {
		st.t.Helper()
		st.t.Fatal(err)
	}
}

// settle waits until what was changed before is programmed, also if the loop was in the middle of an attempt.
func (st *stage) settle() {
	st.t.Helper()
	st.proxy.settle()
	st.proxy.settle()
}

// again ends the loop and starts another, which knows nothing of it.
func (st *stage) again() {
	st.t.Helper()
	st.halt()
	st.run()
	st.queue.Synced()
	st.settle()
}

// allReady is every pod that serves.
var allReady = []endpoint{ready("pod1", true), ready("pod2", true), ready("far1", false)}

// without is all endpoints but one, and that one in another state if there is one.
func without(pod string, but ...endpoint) []endpoint {
	rest := slices.DeleteFunc(slices.Clone(allReady), func(e endpoint) bool { return e.pod == pod })
	return append(rest, but...)
}

// state is an endpoint of allReady in another state.
func state(pod string, as func(string, bool) endpoint) endpoint {
	i := slices.IndexFunc(allReady, func(e endpoint) bool { return e.pod == pod })
	return as(pod, allReady[i].here)
}

// endpoints changes the Service's endpoints, and waits until that is programmed.
func (st *stage) endpoints(all ...endpoint) {
	st.t.Helper()
	st.change(all...)
	st.settle()
}

func (st *stage) change(all ...endpoint) { st.set(st.svc, st.slices(st.svc.Name, st.proto, all)...) }

// frontend is the Service's cluster IP.
func (st *stage) frontend(v6 bool) netip.AddrPort { return st.address(st.svc, toClusterIP, v6) }

// real is the key of a pod's real server behind the cluster IP.
func (st *stage) real(pod string, v6 bool) ipvs.RealKey {
	return ipvs.RealKeyOf(ipvs.AddrKey(st.proto, st.frontend(v6)), netip.AddrPortFrom(st.Pod(pod).Addr(v6), podPort))
}

// look returns a real server as it is, and whether it is there.
func (st *stage) look(k ipvs.RealKey) (ipvs.RealState, bool) {
	st.t.Helper()
	entry, err := st.cfg.IPVS.ReadServer(context.Background(), k.Server)
	st.must(err)
	r, ok := entry.Reals[k.AddrPort()]
	return r, ok
}

// gone waits until a real server is gone, and returns how long that took.
func (st *stage) gone(k ipvs.RealKey, limit time.Duration) time.Duration {
	st.t.Helper()
	begin := time.Now()
	for {
		r, there := st.look(k)
		took := time.Since(begin)
		if !there {
			return took
		}
		if took > limit {
			st.t.Errorf("%v is still there after %v: %+v", k.AddrPort(), limit, r)
			return took
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// server returns the server of a pod with the stage's protocol.
func (st *stage) server(pod string) *lab.Server {
	return st.servers[pod][slices.Index(protocols, st.proto)]
}

// A line is a connection and who has it.
type line struct {
	*lab.Conn
	to  netip.AddrPort
	who string
}

// dial connects.
func (st *stage) dial(from source, to netip.AddrPort) line {
	st.t.Helper()
	c, err := st.Dial(context.Background(), st.host(from), st.proto, to, lab.Wait(3*time.Second))
	st.must(err)
	st.t.Cleanup(func() { c.Close() })
	a := c.Ask(context.Background())
	st.must(a.Err)
	return line{c, to, a.Who}
}

// dialTo connects again and again until a certain pod has the connection.
func (st *stage) dialTo(who string, from source, to netip.AddrPort) line {
	st.t.Helper()
	for {
		c := st.dial(from, to)
		if c.who == who {
			return c
		}
		st.must(c.Close())
	}
}

// holds fails the test unless the same one answers as before.
func (st *stage) holds(c line) {
	st.t.Helper()
	if a := c.Ask(context.Background()); a.Err != nil || a.Who != c.who {
		local, _ := c.Local()
		st.t.Errorf("the connection from %v to %s at %v: %v", local, c.who, c.to, a)
	}
}

// avoids asks over new connections, and fails the test if one fails or comes to a pod that is to get none. One of TCP must
// not have to send its SYN again, which takes a second; SCTP takes three for what a busy machine lost.
func (st *stage) avoids(from source, to netip.AddrPort, not string) {
	st.t.Helper()
	wait := 900 * time.Millisecond
	if st.proto == inet.SCTP {
		wait = 5 * time.Second
	}
	for range 2 * len(allReady) {
		a := st.Ask(context.Background(), st.host(from), st.proto, to, lab.Wait(wait))
		if a.Err != nil || a.Who == not {
			st.t.Errorf("a new connection from %s while %s drains: %v", from, not, a)
		}
	}
}

// A recorder is a table that remembers what was done to its real servers.
type recorder struct {
	ipvs.Kernel
	mu  sync.Mutex
	ops map[ipvs.RealKey][]ipvs.Verb
}

// Do is part of ipvs.Kernel.
func (r *recorder) Do(ctx context.Context, ops []ipvs.Op) []error {
	r.mu.Lock()
	for _, op := range ops {
		if op.Verb >= ipvs.AddReal && r.ops != nil {
			k := ipvs.RealKeyOf(op.Key, op.Addr)
			r.ops[k] = append(r.ops[k], op.Verb)
		}
	}
	r.mu.Unlock()
	return r.Kernel.Do(ctx, ops)
}

// begin forgets what was done so far.
func (r *recorder) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = map[ipvs.RealKey][]ipvs.Verb{}
}

// done returns what was done to a real server since begin.
func (r *recorder) done(k ipvs.RealKey) []ipvs.Verb {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops[k])
}

// onlyWeights fails the test unless the real servers were there all the time, and some had their weight changed.
func (st *stage) onlyWeights(keys ...ipvs.RealKey) {
	st.t.Helper()
	changes := 0
	for _, k := range keys {
		for _, verb := range st.ops.done(k) {
			changes++
			if verb != ipvs.SetReal {
				st.t.Errorf("%s", fmt.Sprint(ipvs.Op{Verb: verb, Key: k.Server, Addr: k.AddrPort()}, ": want changes of its weight alone"))
			}
		}
	}
	if changes == 0 {
		st.t.Error("no weight was changed")
	}
}
