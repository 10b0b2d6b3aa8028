//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// The node's second addresses, which come and go.
var second = [2]netip.Prefix{netip.MustParsePrefix("192.168.77.111/24"), netip.MustParsePrefix("fd00:192:168:77::111/64")}

// An address that the node gets serves node ports, and one that it loses does not, within a second and without any change
// of a Service.
func TestNodePortsFollowAddresses(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	svc := w.plain(p, 1)
	for _, a := range second {
		at := netip.AddrPortFrom(a.Addr(), svc.Ports[0].NodePort)
		addAddress(t, "eth0", a)
		came := within(t, 5*time.Second, fmt.Sprint(at, " answers"), func() bool { return w.everybody(at) })
		delAddress(t, "eth0", a)
		went := within(t, 5*time.Second, fmt.Sprint(at, " is gone"), func() bool { return !p.serves(at) })
		if a := w.ask(question{fromOutside, inet.TCP, at}, time.Second); a.Err == nil {
			t.Errorf("%v, which the node has lost, still answers: %v", at, a)
		}
		t.Logf("%v: answers after %v, its virtual server is gone after %v", at, came, went)
	}
}

// everybody says that all sources get an answer.
func (w *world) everybody(at netip.AddrPort) bool {
	for _, from := range sources {
		if a := w.ask(question{from, inet.TCP, at}, 200*time.Millisecond); a.Err != nil {
			return false
		}
	}
	return true
}

// serves says that the kernel has a virtual server there.
func (p *proxy) serves(at netip.AddrPort) bool {
	table, err := p.cfg.IPVS.Read(context.Background())
	p.must(err)
	_, ok := table[ipvs.AddrKey(inet.TCP, at)]
	return ok
}

// plain sets the n-th Service, with endpoints on this node, and waits for it.
func (w *world) plain(p *proxy, n int) plan.Service {
	svc := service(n, inet.TCP)
	p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true), ready("pod2", true)})...)
	p.settle()
	return svc
}

// The node's loopback addresses are no frontends, whatever the port: what listens there is the node's own.
func TestLoopbackIsTheNodes(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	svc := w.plain(p, 1)
	w.serveOn(t, w.Node, inet.TCP, svc.Ports[0].NodePort, "host")
	for _, addr := range []string{"127.0.0.1", "127.1.2.3", "::1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), svc.Ports[0].NodePort)
		if a := w.ask(question{fromNode, inet.TCP, at}, 5*time.Second); a.Who != "host" {
			t.Errorf("%v: %v, want the host's answer", at, a)
		}
	}
}

// With --nodeport-addresses only the addresses in these ranges serve node ports; what listens at the others is the node's.
func TestNodePortAddresses(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, a := range second {
		addAddress(t, "eth0", a)
		t.Cleanup(func() { delAddress(t, "eth0", a) })
	}
	p := start(t, setup{detector: clusterCIDR, nodePorts: config.NodePorts{Ranges: []netip.Prefix{
		netip.PrefixFrom(second[0].Addr(), 32), netip.PrefixFrom(second[1].Addr(), 128),
	}}})
	svc := w.plain(p, 1)
	w.serveOn(t, w.Node, inet.TCP, svc.Ports[0].NodePort, "host")
	for i, v6 := range []bool{false, true} {
		for _, from := range sources {
			selected := netip.AddrPortFrom(second[i].Addr(), svc.Ports[0].NodePort)
			if a := w.ask(question{from, inet.TCP, selected}, 5*time.Second); a.Err != nil || a.Who == "host" {
				t.Errorf("%s to %v: %v, want an answer of a pod", from, selected, a)
			}
			other := w.address(svc, toNodePort, v6)
			if a := w.ask(question{from, inet.TCP, other}, 5*time.Second); a.Who != "host" {
				t.Errorf("%s to %v: %v, want the host's answer", from, other, a)
			}
		}
	}
}

// Links that come and go, as those of pods do, interrupt no node port.
func TestNodePortsOutliveLinkChurn(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	svc := w.plain(p, 1)
	stop, asked := make(chan struct{}), make(chan int)
	for _, v6 := range []bool{false, true} {
		go func() { asked <- w.askUntil(t, stop, question{fromOutside, inet.TCP, w.address(svc, toNodePort, v6)}) }()
	}
	const links = 200
	begin := time.Now()
	for i := range links {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("churn%d", i)
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprintf("peer%d", i)}
		p.must(netlink.LinkAdd(veth))
		p.must(netlink.LinkSetUp(veth))
		p.must(netlink.LinkDel(veth))
	}
	close(stop)
	t.Logf("%d links in %v: %d answers", links, time.Since(begin).Round(time.Millisecond), <-asked+<-asked)
}

// askUntil asks again and again until it is told to stop, complains about everything but answers, and counts those.
func (w *world) askUntil(t *testing.T, stop <-chan struct{}, q question) (answers int) {
	for {
		select {
		case <-stop:
			return answers
		default:
		}
		if a := w.ask(q, 5*time.Second); a.Err != nil {
			t.Errorf("%v: %v", q, a)
		}
		answers++
		time.Sleep(5 * time.Millisecond)
	}
}

func addAddress(t *testing.T, link string, a netip.Prefix) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err == nil {
		err = netlink.AddrAdd(l, addressOf(t, a))
	}
	if err != nil {
		t.Fatalf("add %v to %s: %v", a, link, err)
	}
}

func delAddress(t *testing.T, link string, a netip.Prefix) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err == nil {
		err = netlink.AddrDel(l, addressOf(t, a))
	}
	if err != nil {
		t.Fatalf("delete %v from %s: %v", a, link, err)
	}
}

func addressOf(t *testing.T, a netip.Prefix) *netlink.Addr {
	t.Helper()
	addr, err := netlink.ParseAddr(a.String())
	if err != nil {
		t.Fatal(err)
	}
	addr.Flags = unix.IFA_F_NODAD // or an IPv6 address would not work for a second
	return addr
}

// serveOn starts a server on a host until the test ends.
func (w *world) serveOn(t *testing.T, host *lab.Host, proto inet.Protocol, port uint16, name string) *lab.Server {
	t.Helper()
	s, err := w.Serve(host, proto, port, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
