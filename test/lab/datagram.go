package lab

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// receive waits for a datagram. What it leaves in control is what send needs to answer from the address that was asked.
func (s *socket) receive(buffer, control []byte) (n, c int, from unix.Sockaddr, err error) {
	var result error
	err = s.raw.Read(func(fd uintptr) bool {
		result = uninterrupted(func() (err error) {
			n, c, _, from, err = unix.Recvmsg(int(fd), buffer, control, 0)
			return err
		})
		return !errors.Is(result, unix.EAGAIN)
	})
	return n, c, from, cmp.Or(ended(err), os.NewSyscallError("recvmsg", result))
}

// send sends a datagram from the address in control.
func (s *socket) send(text string, control []byte, to unix.Sockaddr) error {
	source, err := answerSource(control)
	if err != nil {
		return err
	}
	return s.control("sendmsg", func(fd int) error {
		return uninterrupted(func() error { return unix.Sendmsg(fd, []byte(text), source, to, 0) })
	})
}

// answerSource turns the information about where a datagram arrived, struct in_pktinfo or in6_pktinfo (ip(7), ipv6(7)),
// into that about where an answer is to come from: the same address, over whatever link the routes say.
func answerSource(control []byte) ([]byte, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:])}), nil
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data)}), nil
		}
	}
	return nil, errors.New("a datagram without its address")
}
