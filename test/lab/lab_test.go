//go:build kernel

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

var protocols = []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}

// serveEverywhere starts a server of every protocol on every host.
func serveEverywhere(t *testing.T, l *Lab, port uint16) {
	t.Helper()
	for _, h := range l.hosts() {
		for _, proto := range protocols {
			if _, err := l.Serve(h, proto, port, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// expectedSource is the address that a host has for another one: that of the link on the way, if it has one.
func expectedSource(l *Lab, from, to *Host, v6 bool) netip.Addr {
	switch {
	case from == l.Router && to == l.Client:
		return Outside.host(1)[family(v6)]
	case from == l.Node && l.config.Bridge && Pods.Prefix(v6).Contains(to.Addr(v6)):
		return Pods.host(1)[family(v6)]
	}
	return from.Addr(v6)
}

func TestEveryHostReachesEveryOther(t *testing.T) {
	for _, config := range []Config{{Forward: true}, {Forward: true, Bridge: true, LinkPrefix: "veth"}} {
		t.Run(fmt.Sprintf("bridge %v", config.Bridge), func(t *testing.T) {
			l := standing(t, config)
			serveEverywhere(t, l, 80)
			var asks sync.WaitGroup
			start, count := time.Now(), 0
			for _, from := range l.hosts() {
				for _, to := range l.hosts() {
					count += len(protocols) * 2
					asks.Go(func() { expectReach(t, l, from, to) })
				}
			}
			asks.Wait()
			t.Logf("%d requests, %v each", count, time.Since(start)/time.Duration(count))
		})
	}
}

func expectReach(t *testing.T, l *Lab, from, to *Host) {
	for _, proto := range protocols {
		for _, v6 := range []bool{false, true} {
			// The point is that it arrives, not when: hundreds are on their way.
			got := l.Ask(t.Context(), from, proto, netip.AddrPortFrom(to.Addr(v6), 80), Wait(20*time.Second))
			if got.Err != nil || got.Who != to.String() || got.Source.Addr() != expectedSource(l, from, to, v6) {
				t.Errorf("%s to %s, %s, IPv6 %v: %v", from, to, proto, v6, got)
			}
		}
	}
}

// Servers answer from the address that was asked: here not the one that the routes would choose.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	l := standing(t, Config{})
	serveEverywhere(t, l, 80)
	for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
		for _, addr := range Outside.host(1) {
			if got := l.Ask(t.Context(), l.Node, proto, netip.AddrPortFrom(addr, 80)); got.Who != "router" {
				t.Errorf("%s to %v: %v", proto, addr, got)
			}
		}
	}
}

func TestServicesAreBehindTheNode(t *testing.T) {
	l := standing(t, Config{RemoteServices: true})
	serveEverywhere(t, l, 80)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, services := range Services {
		for _, addr := range services.host(5).alone() {
			if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { netlink.AddrDel(lo, &netlink.Addr{IPNet: ipNet(addr)}) })
			for _, from := range []*Host{l.Client, l.Pod("pod1"), l.Pod("pod3"), l.Node2} {
				got := l.Ask(t.Context(), from, inet.TCP, netip.AddrPortFrom(addr.Addr(), 80))
				if got.Who != "node1" || got.Source.Addr() != from.Addr(addr.Addr().Is6()) {
					t.Errorf("%s to %v: %v", from, addr, got)
				}
			}
		}
	}
}

// The ways to get no answer, by what the router does with the packet.
func TestRefusalAndSilence(t *testing.T) {
	l := standing(t, Config{})
	nowhere := network("203.0.113.0/24", "2001:db8:203::/64") // more specific routes than those to the node
	situations := []struct {
		name string
		kind int
		want error
	}{
		{"no listener", 0, ErrRefused},
		{"unreachable", unix.RTN_UNREACHABLE, ErrRefused},
		{"prohibited", unix.RTN_PROHIBIT, ErrRefused},
		{"dropped", unix.RTN_BLACKHOLE, ErrSilence},
	}
	for i, s := range situations {
		for v6, addr := range nowhere.host(100 + i) {
			to := netip.AddrPortFrom(addr, 80)
			if s.kind == 0 {
				to = netip.AddrPortFrom(l.Client.Addr(v6 == 1), 81)
			} else if err := l.Router.links.RouteAdd(&netlink.Route{Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen())), Type: s.kind}); err != nil {
				t.Fatal(err)
			}
			for _, proto := range protocols {
				for _, from := range []*Host{l.Node, l.Pod("pod3")} {
					if got := l.Ask(t.Context(), from, proto, to); !errors.Is(got.Err, s.want) {
						t.Errorf("%s: %s from %s to %v: %v, want %v", s.name, proto, from, to, got, s.want)
					}
				}
			}
		}
	}
}

// The node's own rules drop or reject what it sends: the kernel tells the sender of a datagram before the answer comes.
func TestOwnRules(t *testing.T) {
	l := standing(t, Config{})
	serveEverywhere(t, l, 80)
	for target, want := range map[string]error{"REJECT": ErrRefused, "DROP": ErrSilence} {
		for v6, command := range []string{"iptables", "ip6tables"} {
			to := netip.AddrPortFrom(l.Client.Addr(v6 == 1), 80)
			rule := []string{"OUTPUT", "-d", to.Addr().String(), "-j", target}
			iptables(t, command, append([]string{"-A"}, rule...))
			for _, proto := range protocols {
				if got := l.Ask(t.Context(), l.Node, proto, to); !errors.Is(got.Err, want) {
					t.Errorf("%s %s, %s: %v, want %v", command, target, proto, got, want)
				}
			}
			iptables(t, command, append([]string{"-D"}, rule...))
		}
	}
}

func iptables(t *testing.T, command string, args []string) {
	t.Helper()
	if out, err := exec.Command(command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", command, args, err, out)
	}
}

func TestNodeWithoutDefaultRoute(t *testing.T) {
	l := standing(t, Config{NoDefaultRoute: true})
	for _, proto := range protocols {
		got := l.Ask(t.Context(), l.Node, proto, netip.AddrPortFrom(l.Client.Addr(false), 80))
		if !errors.Is(got.Err, ErrRefused) || !errors.Is(got.Err, unix.ENETUNREACH) {
			t.Errorf("%s: %v, want %v with %v", proto, got, ErrRefused, unix.ENETUNREACH)
		}
	}
}

func TestConnectionStays(t *testing.T) {
	l := standing(t, Config{Forward: true})
	for _, proto := range protocols {
		for _, v6 := range []bool{false, true} {
			port := uint16(1000 + uint16(proto) + uint16(family(v6)))
			server, err := l.Serve(l.Pod("pod1"), proto, port, "keeper")
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Dial(t.Context(), l.Client, proto, netip.AddrPortFrom(l.Pod("pod1").Addr(v6), port))
			if err != nil {
				t.Fatal(err)
			}
			local, err := c.Local()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if got, want := c.Ask(t.Context()), (Answer{Who: "keeper", Source: local}); got != want {
					t.Errorf("%s: %v, want %v", proto, got, want)
				}
			}
			want := 1
			if proto == inet.UDP {
				want = 3
			}
			if got := [2]int{server.Accepted(), server.Arrived()}; got != [2]int{want, want} {
				t.Errorf("%s, IPv6 %v: %d accepted and arrived, want %d", proto, v6, got, want)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			if got := c.Ask(t.Context()); got.Err == nil {
				t.Errorf("%s: %v from a server that is closed", proto, got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A source port can be used again at once, and packets that ask another port are not counted as arrived.
// A connection that the node tracks would be found again by a client of the next lab that gets its port.
func TestNoTrackedConnectionStays(t *testing.T) {
	l := standing(t, Config{})
	for _, v6 := range []bool{false, true} {
		family := netlink.InetFamily(unix.AF_INET)
		if v6 {
			family = unix.AF_INET6
		}
		there := netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: l.Client.Addr(v6).AsSlice(), SrcPort: 40000, DstIP: l.Node.Addr(v6).AsSlice(), DstPort: 80}
		back := netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: there.DstIP, SrcPort: there.DstPort, DstIP: there.SrcIP, DstPort: there.SrcPort}
		flow := &netlink.ConntrackFlow{FamilyType: uint8(family), Forward: there, Reverse: back, TimeOut: 600, ProtoInfo: &netlink.ProtoInfoTCP{State: nl.TCP_CONNTRACK_ESTABLISHED}}
		if err := netlink.ConntrackCreate(netlink.ConntrackTable, family, flow); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSourcePort(t *testing.T) {
	l := standing(t, Config{})
	for _, proto := range protocols {
		server, err := l.Serve(l.Client, proto, 80, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, v6 := range []bool{false, true} {
			source := netip.AddrPortFrom(l.Node.Addr(v6), 4321)
			for _, option := range []Option{From(source), From(netip.AddrPortFrom(netip.Addr{}, 4321))} {
				got := l.Ask(t.Context(), l.Node, proto, netip.AddrPortFrom(l.Client.Addr(v6), 80), option)
				if got != (Answer{Who: "client", Source: source}) {
					t.Errorf("%s from %v: %v", proto, source, got)
				}
			}
			got := l.Ask(t.Context(), l.Node, proto, netip.AddrPortFrom(l.Client.Addr(v6), 81))
			if !errors.Is(got.Err, ErrRefused) {
				t.Errorf("%s to a port without server: %v", proto, got)
			}
		}
		if server.Accepted() != 4 || server.Arrived() != 4 {
			t.Errorf("%s: %d accepted, %d arrived, want 4", proto, server.Accepted(), server.Arrived())
		}
	}
}

func TestEndOfContextEndsTheWait(t *testing.T) {
	l := standing(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c, err := l.Dial(t.Context(), l.Node, inet.UDP, netip.AddrPortFrom(Outside.host(99)[0], 80), Wait(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Ask(ctx); !errors.Is(got.Err, context.DeadlineExceeded) {
		t.Errorf("%v, want %v", got, context.DeadlineExceeded)
	}
}

func TestHostThatDoesNotExist(t *testing.T) {
	l := standing(t, Config{})
	got := l.Ask(t.Context(), l.Pod("pod9"), inet.TCP, netip.AddrPortFrom(l.Node.Addr(false), 80))
	if !errors.Is(got.Err, ErrNoHost) {
		t.Errorf("%v, want %v", got, ErrNoHost)
	}
	if _, err := l.Serve(l.Pod("pod9"), inet.TCP, 80, ""); !errors.Is(err, ErrNoHost) {
		t.Errorf("Serve: %v, want %v", err, ErrNoHost)
	}
}

// What cannot be built leaves nothing behind, and the lab after it stands.
func TestImpossibleLabs(t *testing.T) {
	before, goroutines := inventory(t), goleak.IgnoreCurrent()
	for says, config := range map[string]Config{
		"two pods named pod1":                {Pods: []string{"pod1"}, RemotePods: []string{"pod1"}},
		"make link calipod-with-a-long-name": {Pods: []string{"pod1", "pod-with-a-long-name"}},
	} {
		if l, err := New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, %v, want %q", l, err, says)
		}
		if diff := cmp.Diff(before, inventory(t)); diff != "" {
			t.Errorf("%s: the node before and after (-before +after):\n%s", says, diff)
		}
	}
	if err := goleak.Find(goroutines); err != nil {
		t.Error(err)
	}
}

func BenchmarkAsk(b *testing.B) {
	l, err := New(Config{Forward: true})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for _, proto := range protocols {
		if _, err := l.Serve(l.Client, proto, 80, ""); err != nil {
			b.Fatal(err)
		}
		b.Run(proto.String(), func(b *testing.B) {
			for b.Loop() {
				if got := l.Ask(b.Context(), l.Pod("pod1"), proto, netip.AddrPortFrom(l.Client.Addr(false), 80)); got.Err != nil {
					b.Fatal(got)
				}
			}
		})
	}
}

func BenchmarkNewAndClose(b *testing.B) {
	for b.Loop() {
		l, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
