package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs"
)

// A Server answers every request with its name and the address and port that the request came from. Connections stay
// open until the client closes them, or the server is closed.
type Server struct {
	name     string
	sockets  []*socket // one of each family
	sniffer  *sniffer
	accepted atomic.Int64
	work     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[*socket]struct{}
	failed error // why it ended by itself
}

// Serve starts a server on all IPv4 and IPv6 addresses of a host; with SCTP, which would answer from any of them, on those
// of Host.Addr. An empty name stands for the host's.
func (l *Lab) Serve(host *Host, proto ipvs.Protocol, port uint16, name string) (*Server, error) {
	if name == "" {
		name = host.name
	}
	if strings.ContainsAny(name, " \n") {
		return nil, fmt.Errorf("serve: the name %q has spaces in it", name)
	}
	s := &Server{name: name, conns: map[*socket]struct{}{}}
	err := s.open(host, proto, port)
	if err == nil && !l.config.NotCounting {
		s.sniffer, err = newSniffer(host, proto, port)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve %s %d on %s: %w", proto, port, host, err), s.Close())
	}
	for _, socket := range s.sockets {
		if proto == ipvs.UDP {
			s.work.Go(func() { s.answerDatagrams(socket) })
		} else {
			s.work.Go(func() { s.accept(socket) })
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = append(l.servers, s)
	return s, nil
}

func (s *Server) open(host *Host, proto ipvs.Protocol, port uint16) error {
	for _, v6 := range []bool{false, true} {
		socket, err := openIn(host, proto, v6)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, socket)
		if proto == ipvs.UDP {
			err = socket.set(packetInfo(v6))
		}
		addr := unspecified(v6)
		if proto == ipvs.SCTP {
			addr = host.Addr(v6)
		}
		if err == nil {
			err = socket.bind(netip.AddrPortFrom(addr, port))
		}
		if err == nil && proto != ipvs.UDP {
			err = socket.listen()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Accepted returns how many connections were accepted so far, or datagrams received.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// Arrived returns how many packets that begin something came to the server's host and port so far: TCP SYNs, SCTP
// INITs, UDP datagrams, each repetition included. They count when they enter the host, before its own rules see them.
// With NotCounting it is always 0.
func (s *Server) Arrived() int {
	if s.sniffer == nil {
		return 0
	}
	return s.sniffer.count()
}

// Close ends the server and its connections. It returns the error of a server that had ended by itself.
func (s *Server) Close() error {
	var errs []error
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		for _, socket := range s.sockets {
			errs = append(errs, socket.Close())
		}
		for conn := range s.conns {
			errs = append(errs, conn.Close())
		}
		if s.sniffer != nil {
			errs = append(errs, s.sniffer.close())
		}
	}
	errs = append(errs, s.failed)
	s.mu.Unlock()
	s.work.Wait()
	return errors.Join(errs...)
}

// fail keeps the error that ended a socket of the server, unless it is Close's.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, os.ErrClosed) {
		s.failed = errors.Join(s.failed, fmt.Errorf("server %s: %w", s.name, err))
	}
}

// accept serves a listening socket until it is closed.
func (s *Server) accept(listener *socket) {
	for {
		conn, from, err := listener.accept()
		if errors.Is(err, unix.ECONNABORTED) {
			continue // the client is gone already
		}
		if err != nil {
			s.fail(err)
			return
		}
		s.accepted.Add(1)
		if s.adopt(conn) {
			s.work.Go(func() { s.answerLines(conn, from) })
		}
	}
}

// adopt keeps a connection for Close, or closes it if the server is closed already.
func (s *Server) adopt(conn *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

// answerLines answers the requests on a connection.
func (s *Server) answerLines(conn *socket, from netip.AddrPort) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := conn.WriteString(s.reply(lines.Text(), from)); err != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.conns[conn]; open {
		delete(s.conns, conn)
		conn.Close()
	}
}

// reply is the line that Conn.Ask expects.
func (s *Server) reply(request string, from netip.AddrPort) string {
	return fmt.Sprintf("%s %s %v\n", strings.TrimSpace(request), s.name, from)
}

// answerDatagrams answers from the address that was asked, which need not be the one that the routes would choose.
func (s *Server) answerDatagrams(socket *socket) {
	buffer, control := make([]byte, 2<<10), make([]byte, 256)
	for {
		n, c, from, err := socket.receive(buffer, control)
		if err != nil {
			s.fail(err)
			return
		}
		s.accepted.Add(1)
		// An answer that cannot be sent is one that the client does not get; it says so.
		_ = socket.send(s.reply(string(buffer[:n]), addrPort(from)), control[:c], from)
	}
}

// packetInfo is the option with which received datagrams tell which address they were sent to.
func packetInfo(v6 bool) option {
	if v6 {
		return option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}
	}
	return option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}
}
