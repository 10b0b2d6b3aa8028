package lab

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"syscall"

	"kube-ipvs/internal/inet"

	"golang.org/x/sys/unix"
)

// socket is a socket of any of the protocols. The standard library has none for SCTP, and cannot make one in another
// namespace without holding a thread while it connects. Blocking calls wait in the runtime's poller.
type socket struct {
	*os.File
	raw   syscall.RawConn
	proto inet.Protocol
	v6    bool
}

// open makes a socket in the namespace of the calling thread. An IPv6 socket is for IPv6 alone.
func open(proto inet.Protocol, v6 bool) (*socket, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if v6 {
		domain = unix.AF_INET6
	}
	if proto == inet.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s, err := wrap(fd, proto, v6)
	if err != nil {
		return nil, err
	}
	options := []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}}
	if v6 {
		// An SCTP socket that is not for IPv6 alone offers its peer the host's IPv4 addresses, too.
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	if err := s.set(options...); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openIn makes a socket in the namespace of a host.
func openIn(h *Host, proto inet.Protocol, v6 bool) (s *socket, err error) {
	err = h.Do(func() (err error) {
		s, err = open(proto, v6)
		return err
	})
	return s, err
}

func wrap(fd int, proto inet.Protocol, v6 bool) (*socket, error) {
	f := os.NewFile(uintptr(fd), proto.String())
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &socket{File: f, raw: raw, proto: proto, v6: v6}, nil
}

// option is a socket option whose value is an int.
type option struct{ level, name, value int }

// reportErrors makes a client's socket report unreachable messages, which UDP and SCTP by default pass over in part (ip(7),
// ipv6(7)). It is nothing for a server: their copies, which nobody reads, would fill its buffer.
func (s *socket) reportErrors() error {
	switch {
	case s.proto == inet.TCP:
		return nil
	case s.v6:
		return s.set(option{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1})
	}
	return s.set(option{unix.IPPROTO_IP, unix.IP_RECVERR, 1})
}

// control calls fn with the descriptor.
func (s *socket) control(call string, fn func(fd int) error) error {
	var result error
	if err := s.raw.Control(func(fd uintptr) { result = fn(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError(call, result)
}

func (s *socket) set(options ...option) error {
	return s.control("setsockopt", func(fd int) error {
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *socket) bind(to netip.AddrPort) error {
	return s.control("bind", func(fd int) error { return unix.Bind(fd, sockaddr(to)) })
}

func (s *socket) listen() error {
	return s.control("listen", func(fd int) error { return unix.Listen(fd, 1024) })
}

// local returns the socket's own address.
func (s *socket) local() (netip.AddrPort, error) { return s.name("getsockname", unix.Getsockname) }

func (s *socket) name(call string, get func(int) (unix.Sockaddr, error)) (at netip.AddrPort, err error) {
	err = s.control(call, func(fd int) error {
		sa, err := get(fd)
		at = addrPort(sa)
		return err
	})
	return at, err
}

// connect connects, until the deadline.
func (s *socket) connect(to netip.AddrPort) error {
	err := s.control("connect", func(fd int) error { return unix.Connect(fd, sockaddr(to)) })
	if !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		return err
	}
	var result error
	err = s.raw.Write(func(fd uintptr) (done bool) {
		done, result = connected(int(fd))
		return done
	})
	return cmp.Or(ended(err), os.NewSyscallError("connect", result))
}

// connected tells whether an attempt has ended, and how. To try again would start a new one, with SCTP.
func connected(fd int) (bool, error) {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		return true, err
	}
	_, err = unix.Getpeername(fd)
	return err == nil, nil
}

// accept waits for a connection.
func (s *socket) accept() (conn *socket, from netip.AddrPort, err error) {
	var fd int
	var peer unix.Sockaddr
	var result error
	err = s.raw.Read(func(listener uintptr) bool {
		result = uninterrupted(func() (err error) {
			fd, peer, err = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err
		})
		return !errors.Is(result, unix.EAGAIN)
	})
	if err = cmp.Or(ended(err), os.NewSyscallError("accept", result)); err != nil {
		return nil, from, err
	}
	conn, err = wrap(fd, s.proto, s.v6)
	return conn, addrPort(peer), err
}

// uninterrupted calls again while a signal, such as the runtime's own, interrupts the call.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ended says why a wait of a RawConn ended early: at its deadline or, by an error that has no name, because of Close.
func ended(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
