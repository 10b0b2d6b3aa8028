//go:build kernel

package packet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// TestLimits shows the limits that README names, each in its circumstance. One that is none any more fails.
func TestLimits(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR, lookInterval: loop.LookInterval})
	serve := func(n int, proto inet.Protocol, edit func(*plan.Service), pods ...string) plan.Service {
		svc := service(n, proto)
		edit(&svc)
		var in []endpoint
		for _, pod := range pods {
			in = append(in, ready(pod, pod != "far1"))
		}
		p.set(svc, w.slices(svc.Name, proto, in)...)
		p.settle()
		return svc
	}
	for _, limit := range []struct {
		name string
		show func(*limited)
	}{
		{"one client port to one pod by two ways", (*limited).onePort},
		{"policy rules by source", (*limited).rulesBySource},
		{"large datagrams of the node itself over IPv6", (*limited).largeDatagrams},
		{"affinity is kept by address and port", (*limited).affinity},
		{"DNAT by hand onto a cluster IP", (*limited).byHand},
		{"path MTU over IPv4", (*limited).pathMTU},
		{"while rules are flushed", (*limited).flushed},
	} {
		t.Run(limit.name, func(t *testing.T) {
			forget(t)
			limit.show(&limited{w, t, serve})
		})
	}
}

// A limited is a place where a limit is shown.
type limited struct {
	*world
	t     *testing.T
	serve func(n int, proto inet.Protocol, edit func(*plan.Service), pods ...string) plan.Service
}

func asItIs(*plan.Service) {}

// is fails the test unless a question ends as it must.
func (l *limited) is(what string, got lab.Answer, want string) {
	l.t.Helper()
	if fate(got) != want {
		l.t.Errorf("%s: %v, want %s", what, got, want)
	}
}

func (l *limited) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// IPVS tells answers of a pod apart by the client's and the pod's address and port alone. The older connection hangs, and the pod
// itself cannot be reached. The kernel lists the connection first that gets the answers, by which `kube-ipvs check` knows the other.
func (l *limited) onePort() {
	a, b := l.serve(1, inet.TCP, asItIs, "pod1"), l.serve(2, inet.TCP, asItIs, "pod1")
	const port = 11000
	for _, from := range []source{fromPod, fromOutside} {
		older, err := l.connect(from, port, l.address(a, toClusterIP, false))
		l.must(err)
		_, err = exchange(older)
		l.must(err)
		newer, err := l.connect(from, port, l.address(b, toClusterIP, false))
		l.must(err)
		_, err = exchange(newer)
		l.must(err)
		if who, err := exchange(older); err == nil {
			l.t.Errorf("%v: %s answers over the older connection", from, who)
		}
		if got, want := l.listed(from, port), []netip.Addr{b.ClusterIPs[0], a.ClusterIPs[0]}; !slices.Equal(got, want) {
			l.t.Errorf("%v: the kernel lists connections to %v, want %v", from, got, want)
		}
		l.must(errors.Join(unix.Close(older), unix.Close(newer)))
	}
	if fd, err := l.connect(fromPod, port, netip.AddrPortFrom(l.Pod("pod1").Addr(false), podPort)); err == nil {
		l.t.Error("the pod itself answers")
		l.must(unix.Close(fd))
	}
}

// listed returns the addresses to which a client has connections from a port, as the kernel lists them.
func (l *limited) listed(from source, port uint16) (to []netip.Addr) {
	l.t.Helper()
	file, err := os.Open("/proc/net/ip_vs_conn")
	l.must(err)
	defer file.Close()
	for c, err := range ipvs.Connections(file) {
		l.must(err)
		if c.Client == netip.AddrPortFrom(l.host(from).Addr(false), port) {
			to = append(to, c.Server.Addr())
		}
	}
	return to
}

// connect connects from a port that other sockets have, too.
func (l *limited) connect(from source, port uint16, to netip.AddrPort) (fd int, err error) {
	c := &cycler{host: l.host(from), to: to, wait: 2 * time.Second}
	return c.connect(port)
}

// Answers are routed anew when they have got the service address as their source.
func (l *limited) rulesBySource() {
	svc := l.serve(3, inet.TCP, asItIs, "pod1")
	ask := func(what, want string, changes ...change) {
		for _, c := range changes {
			l.must(c.do(l.world))
			defer func() {
				if err := c.undo(l.world); err != nil {
					l.t.Error(err)
				}
			}()
		}
		for _, v6 := range []bool{false, true} {
			at := l.address(svc, toClusterIP, v6)
			l.is(fmt.Sprint(what, ", ", at), l.Ask(context.Background(), l.host(fromPod), inet.TCP, at, lab.Wait(2*time.Second)), want)
		}
	}
	rule := "rule add from {CLUSTERIPS} pref 512 lookup 102"
	blind := routing{"route add default via {ROUTER} dev eth0 table 102", rule}
	ask("no rule", "answered")
	ask("a table that does not know pods", "silence", blind)
	ask("a table that knows pods", "answered", elsewhere("102", rule))
	ask("snat_reroute is off", "answered", blind, setting("net/ipv4/vs/snat_reroute", "0"))
}

// IPVS compares a whole datagram with the MTU before it is cut.
func (l *limited) largeDatagrams() {
	svc := l.serve(4, inet.UDP, asItIs, "pod1")
	for _, from := range []source{fromNode, fromPod} {
		arrived := func() int { return l.servers["pod1"][slices.Index(protocols, inet.UDP)].Accepted() }
		before := arrived()
		err := l.host(from).Do(func() error { return sendLarge(l.address(svc, toClusterIP, true)) })
		time.Sleep(500 * time.Millisecond)
		n := arrived() - before
		if own := from == fromNode; (n == 0) != own || errors.Is(err, unix.EMSGSIZE) != own {
			l.t.Errorf("%v: %d large datagrams arrived, %v", from, n, err)
		}
	}
}

func sendLarge(to netip.AddrPort) (err error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 4 {
		_, err = conn.Write(make([]byte, 4000))
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// A client may stay with two endpoints of one Service.
func (l *limited) affinity() {
	svc := l.serve(5, inet.TCP, func(svc *plan.Service) { svc.Affinity = time.Hour }, "pod1", "pod2")
	who := func(from source, to frontend) string {
		return l.ask(question{from, inet.TCP, l.address(svc, to, false)}, 2*time.Second).Who
	}
	who(fromPod, toClusterIP) // the other client's turn
	first, second := who(fromOutside, toClusterIP), who(fromOutside, toLoadBalancer)
	if first == "" || second == "" || first == second {
		l.t.Errorf("the cluster IP's %q and the load balancer's %q answered", first, second)
	}
}

// What is to be done with a connection was decided at its old destination.
func (l *limited) byHand() {
	svc := l.serve(6, inet.TCP, asItIs, "pod1", "far1")
	to := l.address(svc, toClusterIP, false)
	rule := fmt.Sprintf("PREROUTING -d %v -p tcp --dport 9443 -j DNAT --to-destination %v", l.Node.Addr(false), to)
	run(l.t, "iptables", "-t nat -I "+rule)
	defer run(l.t, "iptables", "-t nat -D "+rule)
	fates := map[string]int{}
	for range 8 {
		a := l.ask(question{fromOutside, inet.TCP, netip.AddrPortFrom(l.Node.Addr(false), 9443)}, time.Second)
		fates[fate(a)+" "+a.Who]++
	}
	l.t.Log(fates)
	if fates["answered pod1"]+fates["answered far1"] == 8 {
		l.t.Error("all are answered")
	}
}

// The node cannot say that a datagram is too big from an address that it does not have.
func (l *limited) pathMTU() {
	svc := l.serve(8, inet.UDP, func(svc *plan.Service) { svc.ExternalLocal = true }, "pod1")
	act(l.t, "ip link set calipod1 mtu 1300")
	defer act(l.t, "ip link set calipod1 mtu 1500")
	for _, to := range []frontend{toClusterIP, toNodePort, toExternalIP} {
		err := l.Client.Do(func() error { return sendWhole(l.address(svc, to, false)) })
		if errors.Is(err, unix.EMSGSIZE) == (to == toExternalIP) {
			l.t.Errorf("%s: %v", to, err)
		}
	}
}

// sendWhole sends datagrams that are not to be cut.
func sendWhole(to netip.AddrPort) error {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	})
	if err := errors.Join(err, set); err != nil {
		return err
	}
	for range 4 {
		if _, err = conn.Write(make([]byte, 1400)); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// Nothing rejects what nobody claims in a range of cluster IPs.
func (l *limited) flushed() {
	svc := l.serve(7, inet.TCP, asItIs, "pod1")
	l.serveOn(l.t, l.Node, inet.TCP, hostPort, "host")
	at := netip.AddrPortFrom(l.address(svc, toClusterIP, false).Addr(), hostPort)
	asked := func() string { return fate(l.ask(question{fromPod, inet.TCP, at}, 500*time.Millisecond)) }
	if got := asked(); got != "refused" {
		l.t.Errorf("before: %s", got)
	}
	var longest time.Duration
	open := 0
	for range 5 {
		act(l.t, noRules)
		begin, last := time.Now(), time.Duration(0)
		for time.Since(begin) < 4*time.Second {
			if asked() == "answered" {
				open, last = open+1, time.Since(begin)
			}
		}
		l.t.Logf("the host's port answers at a cluster IP for %v", last.Round(10*time.Millisecond))
		longest = max(longest, last)
	}
	if got := asked(); got != "refused" || open == 0 || longest > mendLimit {
		l.t.Errorf("after: %s; open %d times, for %v", got, open, longest)
	}
}
