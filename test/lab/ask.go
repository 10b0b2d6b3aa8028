package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kube-ipvs/internal/inet"

	"golang.org/x/sys/unix"
)

// What an Answer's Err, or the error of Dial, is one of, if no server answered. The system's own error is wrapped, too.
var (
	// ErrRefused says that somebody said no: a TCP reset, an SCTP abort, an ICMP message of the kind destination
	// unreachable, or the own host that knows no way there.
	ErrRefused = errors.New("refused")
	// ErrSilence says that nothing came back in time, as when a packet was dropped.
	ErrSilence = errors.New("silence")
)

// An Answer is what came of a request.
type Answer struct {
	Who    string         // the name of the server that answered
	Source netip.AddrPort // whom the server took the request to be from
	Err    error          // ErrRefused, ErrSilence, the context's error, or another
}

// String returns the answer in one line.
func (a Answer) String() string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return fmt.Sprintf("%s saw %v", a.Who, a.Source)
}

// An Option says how to ask.
type Option func(*manner)

// manner is how to ask.
type manner struct {
	source netip.AddrPort
	wait   time.Duration
	fin    bool
}

// From asks from this address and port of the host. The port 0 means any, an invalid or unspecified address the usual one. Closing a
// TCP connection from a port resets it, so that the port can be used again at once.
func From(source netip.AddrPort) Option { return func(m *manner) { m.source = source } }

// Wait gives up after this time instead of the laboratory's.
func Wait(limit time.Duration) Option { return func(m *manner) { m.wait = limit } }

// ports counts the ports that OwnPort gave.
var ports atomic.Uint32

// OwnPort asks from a port that nobody else asked from for long, and that the kernel gives to nobody. A client that leaves the choice
// to the kernel may get the same port for two service addresses, and IPVS mixes up their answers if one pod serves both.
func OwnPort() Option {
	const first, number = 12000, 18000
	return From(netip.AddrPortFrom(netip.Addr{}, uint16(first+ports.Add(1)%number)))
}

// Fin closes a TCP connection as usual, also one from a port.
func Fin() Option { return func(m *manner) { m.fin = true } }

// Ask sends one request from a host, over a connection or, with UDP, from a port of its own, and returns the answer.
func (l *Lab) Ask(ctx context.Context, from *Host, proto inet.Protocol, to netip.AddrPort, how ...Option) Answer {
	c, err := l.Dial(ctx, from, proto, to, how...)
	if err != nil {
		return Answer{Err: err}
	}
	answer := c.Ask(ctx)
	if err := c.Close(); err != nil && answer.Err == nil {
		answer.Err = err
	}
	return answer
}

// A Conn is a connection over which several requests can be sent; with UDP, a port that keeps its number. It is safe for
// use by several goroutines, which take turns.
type Conn struct {
	mu     sync.Mutex
	s      *socket
	wait   time.Duration
	number int
	unread []byte
}

// Dial connects. Its error is classified as an Answer's; a UDP socket connects without asking anybody.
func (l *Lab) Dial(ctx context.Context, from *Host, proto inet.Protocol, to netip.AddrPort, how ...Option) (*Conn, error) {
	m := manner{wait: l.config.Wait}
	for _, option := range how {
		option(&m)
	}
	s, err := openIn(from, proto, to.Addr().Is6())
	if err != nil {
		return nil, err
	}
	c := &Conn{s: s, wait: m.wait}
	err = c.within(ctx, func() error {
		if err := errors.Join(s.reportErrors(), bindSource(s, from, m, to)); err != nil {
			return err
		}
		return s.connect(to)
	})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// bindSource binds a socket to the source asked for, if any.
func bindSource(s *socket, from *Host, m manner, to netip.AddrPort) error {
	source, addr := m.source, m.source.Addr()
	if s.proto == inet.SCTP && (!addr.IsValid() || addr.IsUnspecified()) {
		// An SCTP socket that is not bound offers its peer every address of the host, as further ways to it.
		var err error
		if addr, err = usualSource(from, to); err != nil {
			return err
		}
	}
	if !addr.IsValid() && source.Port() == 0 {
		return nil
	}
	if !addr.IsValid() {
		addr = unspecified(s.v6)
	}
	if source.Port() != 0 && s.proto == inet.TCP && !m.fin {
		err := s.control("setsockopt", func(fd int) error {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		if err != nil {
			return err
		}
	}
	return s.bind(netip.AddrPortFrom(addr, source.Port()))
}

// usualSource returns the address that the host's routes give to packets that go there.
func usualSource(from *Host, to netip.AddrPort) (netip.Addr, error) {
	probe, err := openIn(from, inet.UDP, to.Addr().Is6())
	if err != nil {
		return netip.Addr{}, err
	}
	defer probe.Close()
	if err := probe.connect(to); err != nil {
		return netip.Addr{}, err
	}
	local, err := probe.local()
	return local.Addr(), err
}

func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Ask sends one request and returns the answer to it.
func (c *Conn) Ask(ctx context.Context) Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a Answer
	a.Err = c.within(ctx, func() (err error) {
		a.Who, a.Source, err = c.exchange()
		return err
	})
	return a
}

// Local returns the connection's own address and port.
func (c *Conn) Local() (netip.AddrPort, error) { return c.s.local() }

// Close ends the connection.
func (c *Conn) Close() error { return c.s.Close() }

// within does something with the socket until the time to wait or the context ends, and classifies the error.
func (c *Conn) within(ctx context.Context, do func() error) error {
	if err := c.s.SetDeadline(time.Now().Add(c.wait)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.s.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := do()
	var errno unix.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w for %v: %w", ErrSilence, c.wait, err)
	case errors.As(err, &errno) && slices.Contains(refusals, errno):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// refusals are the errors that a socket reports when it was told no: icmp_err_convert in net/ipv4/icmp.c and its like.
var refusals = []unix.Errno{
	unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.ENOPROTOOPT, unix.EHOSTDOWN,
}

// exchange sends a request, "NUMBER\n", and waits for its reply, "NUMBER NAME SOURCE\n". Replies to earlier requests, for
// which nobody waits any more, are passed over.
func (c *Conn) exchange() (who string, source netip.AddrPort, err error) {
	c.number++
	_, err = fmt.Fprintf(c.s, "%d\n", c.number)
	// EPERM says that a rule of the own host dropped the packet. If it also answered, that comes next.
	if err != nil && !errors.Is(err, unix.EPERM) {
		return "", source, err
	}
	for {
		line, err := c.line()
		if err != nil {
			return "", source, err
		}
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return "", source, fmt.Errorf("a reply that no server of the lab sends: %q", line)
		}
		if fields[0] != fmt.Sprint(c.number) {
			continue
		}
		source, err = netip.ParseAddrPort(fields[2])
		return fields[1], source, err
	}
}

// line reads one line.
func (c *Conn) line() (string, error) {
	for {
		if end := bytes.IndexByte(c.unread, '\n'); end >= 0 {
			line := string(c.unread[:end])
			c.unread = c.unread[end+1:]
			return line, nil
		}
		var buffer [1 << 10]byte
		n, err := c.s.Read(buffer[:])
		if err != nil {
			return "", err
		}
		c.unread = append(c.unread, buffer[:n]...)
	}
}

// Repeated returns how many segments of a TCP connection were sent again, its SYN included: a sign that one was lost.
func (c *Conn) Repeated() (n int, err error) {
	err = c.s.control("getsockopt", func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Total_retrans)
		}
		return err
	})
	return n, err
}
