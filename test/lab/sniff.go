package lab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"

	"kube-ipvs/internal/inet"

	"golang.org/x/sys/unix"
)

// sniffer counts the packets that enter a host to begin something with one of its ports.
type sniffer struct {
	socket *socket
	host   *Host
	proto  inet.Protocol
	port   uint16
	work   sync.WaitGroup

	mu     sync.Mutex
	buffer [128]byte // the headers of a packet
	seen   int
}

// newSniffer opens a packet socket (packet(7)) on all links of the host.
func newSniffer(host *Host, proto inet.Protocol, port uint16) (*sniffer, error) {
	s := &sniffer{host: host, proto: proto, port: port}
	err := host.Do(func() error {
		const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.socket, err = wrap(fd, proto, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.work.Go(func() {
		// Ends when the socket is closed.
		_ = s.socket.raw.Read(func(fd uintptr) bool { s.drain(int(fd)); return false })
	})
	return s, nil
}

func (s *sniffer) close() error {
	err := s.socket.Close()
	s.work.Wait()
	return err
}

// count returns the number of those packets so far. A packet that was answered is counted: the kernel hands it to us first.
func (s *sniffer) count() int {
	// A socket that is closed has been drained for the last time.
	_ = s.socket.raw.Control(func(fd uintptr) { s.drain(int(fd)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// drain looks at every packet that is there.
func (s *sniffer) drain(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		n, from, err := unix.Recvfrom(fd, s.buffer[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			continue // EINTR; ENETDOWN: a link went down (packet(7)), which is told once
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if ok && link.Pkttype != unix.PACKET_OUTGOING && s.begins(s.buffer[:n]) {
			s.seen++
		}
	}
}

// begins tells whether a packet begins something with our port.
func (s *sniffer) begins(packet []byte) bool {
	proto, to, rest := parseIP(packet)
	if proto != s.proto || len(rest) < 14 && proto != inet.UDP || len(rest) < 8 {
		return false
	}
	if to != s.host.Addr(to.Is6()) || binary.BigEndian.Uint16(rest[2:]) != s.port {
		return false
	}
	const syn, ack, initChunk = 0x02, 0x10, 1 // RFC 9293, 3.1; RFC 9260, 3.2
	switch proto {
	case inet.TCP:
		return rest[13]&(syn|ack) == syn
	case inet.SCTP:
		return rest[12] == initChunk
	}
	return true
}

// parseIP returns the protocol, the destination and what follows the header (RFC 791, 3.1; RFC 8200, 3). The lab's hosts
// send no IPv6 extension headers.
func parseIP(packet []byte) (proto inet.Protocol, to netip.Addr, rest []byte) {
	if len(packet) < 20 {
		return 0, to, nil
	}
	switch header := int(packet[0]&0xf) * 4; {
	case packet[0]>>4 == 4 && len(packet) >= header:
		to, _ = netip.AddrFromSlice(packet[16:20])
		return inet.Protocol(packet[9]), to, packet[header:]
	case packet[0]>>4 == 6 && len(packet) >= 40:
		to, _ = netip.AddrFromSlice(packet[24:40])
		return inet.Protocol(packet[6]), to, packet[40:]
	}
	return 0, to, nil
}
