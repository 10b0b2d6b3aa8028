//go:build kernel

package kernel

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/conntrack"
)

// kernelFlows is the running kernel's table, filled and listed by another library.
type kernelFlows struct{ *conntrack.Conn }

func openConntrack(t *testing.T) kernelFlows {
	t.Helper()
	newNetwork(t)
	c, err := conntrack.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return kernelFlows{c}
}

func (kernelFlows) add(t *testing.T, flows ...conntrack.Flow) {
	t.Helper()
	for _, f := range flows {
		family := netlink.InetFamily(unix.AF_INET6)
		if f.Client.Addr().Is4() {
			family = unix.AF_INET
		}
		err := netlink.ConntrackCreate(netlink.ConntrackTable, family, &netlink.ConntrackFlow{
			FamilyType: uint8(family), TimeOut: 600,
			Forward: ipTuple(f.Proto, f.Client, f.Frontend), Reverse: ipTuple(f.Proto, f.Endpoint, f.Client),
		})
		if err != nil {
			t.Fatalf("track %v: %v", f, err)
		}
	}
}

func ipTuple(proto inet.Protocol, src, dst netip.AddrPort) netlink.IPTuple {
	return netlink.IPTuple{
		Protocol: uint8(proto), SrcIP: src.Addr().AsSlice(), SrcPort: src.Port(), DstIP: dst.Addr().AsSlice(), DstPort: dst.Port(),
	}
}

func (kernelFlows) list(t *testing.T) (out []conntrack.Flow) {
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		list, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			out = append(out, conntrack.Flow{
				Proto: inet.Protocol(f.Forward.Protocol), Client: addrPort(f.Forward.SrcIP, f.Forward.SrcPort),
				Frontend: addrPort(f.Forward.DstIP, f.Forward.DstPort), Endpoint: addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort),
			})
		}
	}
	return out
}

func addrPort(ip []byte, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func TestConntrack(t *testing.T) {
	conformsConntrack(t, func(t *testing.T) flowTable { return openConntrack(t) })
}

// The kernel is asked for the flows of the frontend alone; it must not send the whole table.
func TestConntrackFilter(t *testing.T) {
	k := openConntrack(t)
	k.add(t, flows...)
	for i := range 200 {
		k.add(t, conntrack.Flow{
			Proto: inet.UDP, Client: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(1000+i)),
			Frontend: netip.MustParseAddrPort("10.96.9.9:53"), Endpoint: netip.MustParseAddrPort("10.244.0.2:53"),
		})
	}
	tests := []struct {
		at   string
		want uint64
	}{
		{"10.96.0.10:53", 2},
		{"10.96.0.10:5353", 1},
		{"[fd00::a]:5353", 1},
		{"[fd00::a]:53", 3}, // IPv6 addresses are compared here: one flow is of another address
	}
	for _, tt := range tests {
		before := k.Stats().Seen
		if _, err := k.Delete(t.Context(), []conntrack.Frontend{udpFrontend(tt.at)}); err != nil {
			t.Fatal(err)
		}
		if got := k.Stats().Seen - before; got != tt.want {
			t.Errorf("%s: %d flows sent, want %d", tt.at, got, tt.want)
		}
	}
}
