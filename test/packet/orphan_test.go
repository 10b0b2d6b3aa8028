//go:build kernel

package packet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// resetLimit is within what time a client that sends is told that its connection is gone: it sends twice.
const resetLimit = 2 * time.Second

// A client is told when its connection is gone, whether others serve the Service or nobody does: the next that it sends is
// answered by a reset. A flush of conntrack takes none from IPVS that it could go on with.
func TestOrphans(t *testing.T) {
	for _, bind := range []bool{false, true} {
		t.Run(map[bool]string{false: "divert", true: "bind"}[bind], func(t *testing.T) {
			st := newStage(t, setup{bind: bind, detector: clusterCIDR, drainLimit: time.Second})
			st.play("its endpoint left", inet.TCP, func(st *stage) { st.areReset(st.endpointLeaves(without("pod1")...)) })
			st.play("all endpoints left", inet.TCP, func(st *stage) { st.areReset(st.endpointLeaves()) })
			st.play("the table was flushed", inet.TCP, func(st *stage) { st.areReset(st.tableIsFlushed()) })
			st.play("the port is used again", inet.TCP, (*stage).orphanComesBack)
			st.play("conntrack is flushed", inet.TCP, (*stage).conntrackForgets)
			for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
				st.play("conntrack is flushed, and the endpoint speaks over "+proto.String(), proto, (*stage).endpointSpeaks, func(st *stage) { st.svc.ExternalLocal = true })
			}
			st.play("others save marks", inet.TCP, (*stage).marksAreSaved)
		})
	}
}

// everyWay makes a connection to pod1 in every way.
func (st *stage) everyWay() map[question]line {
	st.t.Helper()
	lines := map[question]line{}
	for _, q := range st.ways() {
		lines[q] = st.dialTo("pod1", q.from, q.at)
	}
	return lines
}

// tableIsFlushed makes connections that IPVS forgets, and waits until the table is as it was. IPVS lets go of connections from
// a work queue: were the table back before, they would go on as if nothing had been (ip_vs_trash_get_dest).
func (st *stage) tableIsFlushed() map[question]line {
	st.t.Helper()
	lines := st.everyWay()
	st.must(exec.Command("ipvsadm", "-C").Run())
	within(st.t, 10*time.Second, "forget all connections", func() bool {
		conns, err := os.ReadFile("/proc/net/ip_vs_conn")
		st.must(err)
		return bytes.Count(conns, []byte("\n")) <= 1 // the heading
	})
	st.queue.Note(loop.Kernel)
	st.settle()
	return lines
}

// endpointLeaves makes connections to pod1, and waits until it is gone.
func (st *stage) endpointLeaves(rest ...endpoint) map[question]line {
	st.t.Helper()
	lines := st.everyWay()
	st.endpoints(rest...)
	for q := range lines {
		at := netip.AddrPortFrom(st.Pod("pod1").Addr(q.at.Addr().Is6()), podPort)
		st.gone(ipvs.RealKeyOf(ipvs.AddrKey(st.proto, q.at), at), 10*time.Second)
	}
	return lines
}

// waysTo are all ways to a Service.
func (w *world) waysTo(svc plan.Service) []question {
	var out []question
	for _, v6 := range []bool{false, true} {
		for _, to := range []frontend{toClusterIP, toNodePort, toExternalIP} {
			for _, from := range []source{fromPod, fromNode, fromOutside} {
				out = append(out, question{from, inet.TCP, w.address(svc, to, v6)})
			}
		}
	}
	return out
}

func (st *stage) ways() []question { return st.waysTo(st.svc) }

// areReset fails the test unless all connections are reset when their clients send something.
func (st *stage) areReset(lines map[question]line) {
	st.t.Helper()
	var work sync.WaitGroup
	for q, c := range lines {
		work.Go(func() {
			begin := time.Now()
			a := c.Ask(context.Background())
			took := time.Since(begin).Round(time.Millisecond)
			st.t.Logf("%v: %v after %v", q, a.Err, took)
			if !errors.Is(a.Err, unix.ECONNRESET) || took > resetLimit {
				st.t.Errorf("%v: %v after %v, want a reset within %v", q, a, took, resetLimit)
			}
		})
	}
	work.Wait()
}

// A client whose connection was reset connects from the same port to those that are left, as soon as conntrack has
// forgotten what it saw of the old connection: nf_conntrack_tcp_timeout_close after the reset, usually ten seconds.
func (st *stage) orphanComesBack() {
	const timeout = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close"
	usual, err := os.ReadFile(timeout)
	st.must(err)
	st.must(os.WriteFile(timeout, []byte("1"), 0))
	defer func() { st.must(os.WriteFile(timeout, usual, 0)) }()
	for _, v6 := range []bool{false, true} {
		for _, from := range []source{fromPod, fromOutside} {
			st.endpoints(allReady...)
			to := st.frontend(v6)
			c := st.dialTo("pod1", from, to)
			port, err := c.Local()
			st.must(err)
			st.endpoints(without("pod1")...)
			st.gone(st.real("pod1", v6), 10*time.Second)
			st.areReset(map[question]line{{from, inet.TCP, to}: c})
			st.must(c.Close())
			st.untracked(port)
			again, err := st.Dial(context.Background(), st.host(from), inet.TCP, to, lab.From(netip.AddrPortFrom(netip.Addr{}, port.Port())))
			if err != nil {
				st.t.Errorf("from %v again: %v", port, err)
				continue
			}
			for range 3 {
				if a := again.Ask(context.Background()); a.Err != nil || a.Who == "pod1" {
					st.t.Errorf("from %v again: %v", port, a)
				}
			}
			st.must(again.Close())
		}
	}
}

// untracked waits until conntrack knows nothing of a client's port any more.
func (st *stage) untracked(client netip.AddrPort) {
	st.t.Helper()
	within(st.t, 10*time.Second, "forget "+client.String(), func() bool {
		out, err := exec.Command("conntrack", "-L", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[client.Addr().Is6()], "-p", "tcp", "--orig-port-src", fmt.Sprint(client.Port())).Output()
		st.must(err)
		return len(out) == 0
	})
}

// What conntrack forgets and IPVS does not goes on, where it needs no masquerading.
func (st *stage) conntrackForgets() {
	for _, v6 := range []bool{false, true} {
		c := st.dial(fromPod, st.frontend(v6))
		st.must(exec.Command("conntrack", "-F").Run())
		for range 3 {
			st.holds(c)
		}
		st.must(c.Close())
	}
}

// A connection to an external address goes on also if its endpoint is the first that speaks after conntrack forgot it, as it does of UDP after
// 30 seconds: to conntrack the client's packets are the answers then.
func (st *stage) endpointSpeaks() {
	const port = 9091
	slices := st.slices(st.svc.Name, st.proto, []endpoint{ready("pod1", true)})
	for i := range slices {
		slices[i].Ports[0].Port = port
	}
	st.set(st.svc, slices...)
	st.settle()
	for _, v6 := range []bool{false, true} {
		client, pod := st.pair(st.address(st.svc, toExternalIP, v6), netip.AddrPortFrom(st.Pod("pod1").Addr(v6), port))
		st.must(exec.Command("conntrack", "-F").Run())
		for range 3 {
			st.hears(pod, client)
			st.hears(client, pod)
		}
		st.must(errors.Join(client.Close(), pod.Close()))
	}
}

// pair returns both ends of a connection from outside to a frontend with one endpoint, at pod1.
func (st *stage) pair(frontend, endpoint netip.AddrPort) (client, pod net.Conn) {
	st.t.Helper()
	dial := func() (err error) {
		client, err = net.DialTimeout(st.proto.String(), frontend.String(), 3*time.Second)
		return err
	}
	if st.proto == inet.UDP {
		var socket net.PacketConn
		st.must(st.Pod("pod1").Do(func() (err error) { socket, err = net.ListenPacket("udp", endpoint.String()); return err }))
		st.must(st.Client.Do(dial))
		_, err := client.Write([]byte("."))
		st.must(err)
		st.must(socket.SetReadDeadline(time.Now().Add(3 * time.Second)))
		_, from, err := socket.ReadFrom(make([]byte, 1))
		st.must(err)
		return client, udpEnd{socket.(*net.UDPConn), from}
	}
	var listener net.Listener
	st.must(st.Pod("pod1").Do(func() (err error) { listener, err = net.Listen("tcp", endpoint.String()); return err }))
	st.must(st.Client.Do(dial))
	pod, err := listener.Accept()
	st.must(errors.Join(err, listener.Close()))
	return client, pod
}

// A udpEnd sends to one client.
type udpEnd struct {
	*net.UDPConn
	client net.Addr
}

func (e udpEnd) Write(b []byte) (int, error) { return e.WriteTo(b, e.client) }

// hears fails the test unless what one end of a connection sends arrives at the other.
func (st *stage) hears(from, to net.Conn) {
	st.t.Helper()
	_, err := from.Write([]byte("."))
	st.must(err)
	st.must(to.SetReadDeadline(time.Now().Add(3 * time.Second)))
	if _, err := to.Read(make([]byte, 1)); err != nil {
		st.t.Errorf("from %v to %v: %v", from.LocalAddr(), to.LocalAddr(), err)
	}
}

// An agent that saves and restores whole marks, as some do to route by them, does not make orphans of connections that stand.
func (st *stage) marksAreSaved() {
	rules := func(verb string) {
		for _, program := range []string{"iptables", "ip6tables"} {
			run(st.t, program, "-t mangle "+verb+" PREROUTING -j CONNMARK --save-mark")
		}
	}
	rules("-A")
	defer rules("-D")
	for _, q := range st.ways() {
		c := st.dial(q.from, q.at)
		for range 3 {
			st.holds(c)
		}
		st.must(c.Close())
	}
}

// Connections that kube-proxy made in its iptables mode go on when its rules go and we take its place.
func TestTakenOver(t *testing.T) {
	for _, local := range []bool{false, true} {
		t.Run(map[bool]string{false: "cluster", true: "local"}[local], func(t *testing.T) {
			w := newWorld(t, lab.Config{Forward: true})
			svc := service(1, inet.TCP)
			svc.ExternalLocal = local
			w.translate("-A", w.waysTo(svc))
			lines := map[question]*lab.Conn{}
			for _, q := range w.waysTo(svc) {
				c, err := w.Dial(context.Background(), w.host(q.from), q.proto, q.at, lab.Wait(5*time.Second))
				if err != nil {
					t.Errorf("%v: %v", q, err)
					continue
				}
				defer c.Close()
				lines[q] = c
			}
			w.translate("-D", w.waysTo(svc))
			p := start(t, setup{detector: clusterCIDR})
			p.set(svc, w.slices(svc.Name, inet.TCP, allReady)...)
			p.settle()
			p.settle()
			for q, c := range lines {
				if a := c.Ask(context.Background()); a.Err != nil || a.Who != "pod1" {
					t.Errorf("%v: %v", q, a)
				}
			}
		})
	}
}

// translate adds or deletes rules that send all ways to pod1, in the manner of kube-proxy.
func (w *world) translate(verb string, ways []question) {
	for _, v6 := range []bool{false, true} {
		program := map[bool]string{false: "iptables", true: "ip6tables"}[v6]
		to := netip.AddrPortFrom(w.Pod("pod1").Addr(v6), podPort)
		done := map[netip.AddrPort]bool{}
		for _, q := range ways {
			if q.at.Addr().Is6() == v6 && !done[q.at] {
				done[q.at] = true
				for _, chain := range []string{"PREROUTING", "OUTPUT"} {
					run(w.t, program, fmt.Sprintf("-t nat %s %s -p tcp -d %v --dport %d -j DNAT --to-destination %v", verb, chain, q.at.Addr(), q.at.Port(), to))
				}
			}
		}
		run(w.t, program, fmt.Sprintf("-t nat %s POSTROUTING -p tcp -d %v --dport %d -j MASQUERADE", verb, to.Addr(), to.Port()))
	}
}
