//go:build kernel

package packet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/test/lab"
)

// leaveLimit is within what time of its last connection an endpoint that is listed no more has left.
const leaveLimit = 5 * time.Second

// An endpoint that terminates, or is ready no more, keeps its connections and gets no new ones.
func TestDrain(t *testing.T) {
	const limit = 15 * time.Second
	st := newStage(t, setup{detector: clusterCIDR, drainLimit: limit})
	for _, proto := range []inet.Protocol{inet.TCP, inet.SCTP} {
		st.play(proto.String()+" terminating", proto, func(st *stage) { st.drainAndReturn(going) })
		st.play(proto.String()+" unready", proto, func(st *stage) { st.drainAndReturn(down) })
		st.play(proto.String()+" goes", proto, (*stage).drainAndGo)
	}
	st.play("half closed", inet.TCP, (*stage).drainHalfClosed)
	st.play("limit", inet.TCP, func(st *stage) { st.drainToTheLimit(limit) })
	st.play("flapping", inet.TCP, (*stage).drainFlapping)
	st.play("restart", inet.TCP, (*stage).drainAcrossRestarts)
	for _, scheduler := range schedulers {
		st.play(scheduler, inet.TCP, (*stage).drainFromEverywhere, func(st *stage) { st.cfg.Plan.Scheduler = scheduler })
	}
	for _, mode := range []string{"0", "1", "2"} {
		setting := sysctl.Setting{Name: "net/ipv4/vs/conn_reuse_mode", Value: mode}
		use := func(st *stage) { st.cfg.Settings = append(st.cfg.Settings, setting) }
		st.play("ports used again after close, mode "+mode, inet.TCP, func(st *stage) { st.reusePorts(false) }, use)
		st.play("ports used again after reset, mode "+mode, inet.TCP, func(st *stage) { st.reusePorts(true) }, use)
	}
}

// schedulers are a choice, without "dh", which chooses by the service address and sends all clients to one endpoint.
// It has no flag for choosing again, and drops while that one drains.
var schedulers = []string{"wrr", "wlc", "lblc", "sed", "fo", "ovf", "sh", "mh"}

// An endpoint that returns has never been away.
func (st *stage) drainAndReturn(as func(string, bool) endpoint) {
	for _, v6 := range []bool{false, true} {
		c := st.dial(fromPod, st.frontend(v6))
		st.ops.begin()
		for range 2 {
			st.endpoints(without(c.who, state(c.who, as))...)
			before := st.server(c.who).Arrived()
			st.holds(c)
			st.avoids(fromPod, st.frontend(v6), c.who)
			if n := st.server(c.who).Arrived() - before; n != 0 {
				st.t.Errorf("%d new connections came to %s at weight 0", n, c.who)
			}
			st.endpoints(allReady...)
			st.holds(c)
		}
		st.onlyWeights(st.real(c.who, v6))
		st.must(c.Close())
	}
}

// An endpoint that has left every slice goes soon after its last connection, and not before.
func (st *stage) drainAndGo() {
	first := st.dial(fromPod, st.frontend(false))
	last := st.dialTo(first.who, fromOutside, st.frontend(false))
	st.endpoints(without(last.who)...)
	time.Sleep(leaveLimit)
	st.holds(first)
	st.must(first.Close())
	time.Sleep(leaveLimit)
	st.holds(last)
	st.must(last.Close())
	took := st.gone(st.real(last.who, false), time.Minute)
	st.t.Logf("%s left %v after its last connection", last.who, took.Round(10*time.Millisecond))
	if took > leaveLimit {
		st.t.Errorf("that is more than %v", leaveLimit)
	}
}

// A connection over which only the endpoint still sends goes on as long as the endpoint is listed.
func (st *stage) drainHalfClosed() {
	const port, seconds = 9090, 8
	list := func(as func(string, bool) endpoint) {
		slices := st.slices(st.svc.Name, inet.TCP, []endpoint{state("pod1", as)})
		slices[0].Ports[0].Port = port
		st.set(st.svc, slices[0])
		st.settle()
	}
	list(ready)
	reports := st.lateTalker(st.Pod("pod1"), port, seconds)
	var conn net.Conn
	st.must(st.Client.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", st.frontend(false).String(), 3*time.Second)
		return err
	}))
	defer conn.Close()
	st.must(conn.(*net.TCPConn).CloseWrite())
	list(down)
	heard, err := io.ReadAll(conn)
	if len(heard) != seconds || err != nil {
		st.t.Errorf("heard %d of %d words: %v", len(heard), seconds, err)
	}
	st.must(<-reports)
	st.t.Logf("heard all %d words in %d seconds", len(heard), seconds)
}

// lateTalker serves one connection: when the client has said all, it says a word a second for some time.
func (st *stage) lateTalker(host *lab.Host, port uint16, seconds int) <-chan error {
	var listener net.Listener
	st.must(host.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(host.Addr(false), port).String())
		return err
	}))
	st.t.Cleanup(func() { listener.Close() })
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
		for range seconds {
			if err == nil {
				time.Sleep(time.Second)
				_, err = conn.Write([]byte("."))
			}
		}
		if conn != nil {
			conn.Close()
		}
		done <- err
	}()
	return done
}

// An endpoint that has left every slice leaves at its limit, whatever connections it has.
func (st *stage) drainToTheLimit(limit time.Duration) {
	c := st.dial(fromPod, st.frontend(false))
	st.endpoints(without(c.who)...)
	begin := time.Now()
	st.holds(c)
	st.gone(st.real(c.who, false), 2*limit)
	took := time.Since(begin)
	a := c.Ask(context.Background())
	st.t.Logf("left %v after it was listed; then its connection: %v", took.Round(10*time.Millisecond), a)
	if took < limit || took > limit+leaveLimit {
		st.t.Errorf("left after %v, want %v and a little", took, limit)
	}
	if a.Err == nil {
		st.t.Error("its connection goes on")
	}
}

// Readiness that comes and goes breaks nothing.
func (st *stage) drainFlapping() {
	var lines []line
	var keys []ipvs.RealKey
	for _, v6 := range []bool{false, true} {
		for _, to := range []frontend{toClusterIP, toNodePort, toExternalIP} {
			for _, from := range []source{fromPod, fromNode, fromOutside} {
				c := st.dial(from, st.address(st.svc, to, v6))
				k := st.real(c.who, v6)
				k.Server = ipvs.AddrKey(st.proto, st.address(st.svc, to, v6))
				lines, keys = append(lines, c), append(keys, k)
			}
		}
	}
	st.ops.begin()
	for range 10 {
		for _, pod := range serving {
			st.endpoints(without(pod, state(pod, down))...)
			for _, c := range lines {
				st.holds(c)
			}
		}
	}
	st.endpoints(allReady...)
	st.onlyWeights(keys...)
	st.t.Logf("%d connections over 30 changes of readiness", len(lines))
}

// A loop that begins while endpoints drain knows it from the kernel.
func (st *stage) drainAcrossRestarts() {
	c := st.dial(fromPod, st.frontend(false))
	key := st.real(c.who, false)
	st.ops.begin()
	st.endpoints(without(c.who)...)
	for range 3 {
		st.again()
		st.holds(c)
		st.avoids(fromPod, st.frontend(false), c.who)
		if r, _ := st.look(key); r.Weight != 0 || r.Active != 1 {
			st.t.Errorf("%s is %+v after a restart, want weight 0 and its connection", c.who, r)
		}
	}
	st.change(allReady...) // while nobody looks
	st.again()
	if r, _ := st.look(key); r.Weight != 1 {
		st.t.Errorf("%s is %+v after it returned, want its weight back", c.who, r)
	}
	st.holds(c)
	st.onlyWeights(key)
	st.endpoints(without(c.who)...)
	st.again()
	st.must(c.Close())
	st.t.Logf("left %v after its last connection", st.gone(key, leaveLimit).Round(10*time.Millisecond))
}

// Every scheduler sends new connections elsewhere, also those that choose by the source.
func (st *stage) drainFromEverywhere() {
	for _, from := range []source{fromPod, fromNode, fromOutside} {
		c := st.dial(from, st.frontend(false))
		st.endpoints(without(c.who, state(c.who, going))...)
		st.avoids(from, st.frontend(false), c.who)
		st.holds(c)
		st.endpoints(allReady...)
		st.must(c.Close())
	}
}

// A client that uses its ports again and again is not sent to an endpoint that drains, whatever became of the connections
// that it had from the same ports.
func (st *stage) reusePorts(reset bool) {
	c := &cycler{host: st.Client, to: st.address(st.svc, toNodePort, false), ports: 200, reset: reset, wait: 5 * time.Second}
	st.must(c.reuseTimeWait())
	c.cycle(st.t)
	st.endpoints(without("pod1", state("pod1", going))...)
	before := st.server("pod1").Arrived()
	for range 2 {
		c.cycle(st.t)
	}
	if n := st.server("pod1").Arrived() - before; n != 0 {
		st.t.Errorf("%d SYNs came to pod1 at weight 0", n)
	}
	st.t.Logf("%d connections from %d ports, %.0f a second; %d sent their SYN again, the slowest took %v; %s", c.made, c.ports, c.rate(),
		c.resent, c.slowest.Round(time.Millisecond), strings.Join(c.shares(), ", "))
	if c.resent > c.made/100 { // a machine that stands still for a second makes one or two
		st.t.Errorf("%d connections waited because their SYN was dropped", c.resent)
	}
}
