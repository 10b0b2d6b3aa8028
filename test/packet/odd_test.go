//go:build kernel

package packet

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// Packets that conntrack makes nothing of (INVALID) are scheduled by IPVS all the same. They get past neither source ranges
// nor a Local policy without endpoints here.
func TestOddPackets(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	here, there := []endpoint{ready("pod1", true)}, []endpoint{ready("far1", false)}
	open, ranged, local := service(1, inet.TCP), service(2, inet.TCP), service(3, inet.TCP)
	ranged.SourceRanges, local.ExternalLocal = podsHere, true
	p.set(open, w.slices(open.Name, inet.TCP, here)...)
	p.set(ranged, w.slices(ranged.Name, inet.TCP, here)...)
	p.set(local, w.slices(local.Name, inet.TCP, there)...)
	p.settle()
	for _, v6 := range []bool{false, true} {
		for _, tt := range []struct {
			name   string
			pod    string
			at     netip.AddrPort
			passes bool
		}{
			{"open to all", "pod1", w.address(open, toLoadBalancer, v6), true},
			{"ranges", "pod1", w.address(ranged, toLoadBalancer, v6), false},
			{"Local policy, external IP", "far1", w.address(local, toExternalIP, v6), false},
			{"Local policy, node port", "far1", w.address(local, toNodePort, v6), false},
		} {
			before := w.arrived(tt.pod)
			for range 5 {
				w.sendOdd(t, tt.at)
			}
			time.Sleep(200 * time.Millisecond)
			if n := w.arrived(tt.pod) - before; n > 0 != tt.passes {
				t.Errorf("%s, %v: %d packets arrived, want some: %v", tt.name, tt.at, n, tt.passes)
			}
		}
	}
}

// arrived is how many packets came to a pod to begin something with TCP.
func (w *world) arrived(pod string) int { return w.servers[pod][0].Arrived() }

// sendOdd sends a segment with SYN and FIN, which is no beginning that conntrack accepts (tcp_valid_flags in
// net/netfilter/nf_conntrack_proto_tcp.c), from the client.
func (w *world) sendOdd(t *testing.T, to netip.AddrPort) {
	t.Helper()
	err := w.Client.Do(func() error {
		domain, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16()})
		if to.Addr().Is4() {
			domain, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		const dataOffset, synFin, window = 5 << 4, 0x03, 1024 // RFC 9293, 3.1
		segment := binary.BigEndian.AppendUint16(nil, 40000)
		segment = binary.BigEndian.AppendUint16(segment, to.Port())
		segment = append(segment, 0, 0, 0, 1, 0, 0, 0, 0, dataOffset, synFin)
		segment = binary.BigEndian.AppendUint16(segment, window)
		segment = append(segment, 0, 0, 0, 0) // neither checksum nor urgent pointer
		return os.NewSyscallError("sendto", unix.Sendto(fd, segment, 0, sockaddr))
	})
	if err != nil {
		t.Fatal(err)
	}
}
