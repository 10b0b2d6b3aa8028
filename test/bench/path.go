package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs"
	"kube-ipvs/test/lab"
)

// The ways that packets go from a pod of the node to another, by the names of their figures.
const (
	forwarded   = "forwarded"   // to a pod, in a connection that stands
	established = "established" // the same to a cluster IP
	straightTCP = "straight TCP"
	newTCP      = "new TCP" // to a cluster IP: the first packet of a connection
	straightUDP = "straight UDP"
	newUDP      = "new UDP"
)

// How many packets are sent at once, and how often in a turn, of which the fastest counts: nothing makes a packet cheaper than it is,
// and what the machine does in between is longer than a batch.
const (
	pathBatch = 64
	pathOften = 12
	pathWarm  = 8 // before, for what the caches forgot meanwhile
	// Of those that begin something only few are sent: what they leave in tables costs those who come after.
	newBatchSize = 16
	newOften     = 3
)

// A path is a node whose state packets meet, and a pod that sends them.
type path struct {
	*lab.Lab
	sender
	lane
	asker   netip.Addr
	targets map[string]netip.AddrPort
	stand   map[string]standing
	port    uint16 // of what began last
	counts  figures
	servers []net.Listener
}

// A standing connection, and its next segment.
type standing struct {
	net.Conn
	segment
}

// pathOf measures what a packet costs on its way through a node with the state of a contender: the time from when a pod gives
// it to its link until another pod drops it, where it comes in. Nobody ever answers.
func pathOf(contender string) part {
	return func(ctx context.Context, s size) (measurement, error) {
		p, err := newPath(ctx, contender, s)
		if err != nil {
			return measurement{}, fmt.Errorf("%s: %w", contender, err)
		}
		return measurement{func(context.Context) (figures, error) { return p.turn() }, p.close}, nil
	}
}

func newPath(ctx context.Context, contender string, s size) (*path, error) {
	if err := hasten(); err != nil {
		return nil, err
	}
	l, err := contend(ctx, contender, s)
	if err != nil {
		return nil, err
	}
	p := &path{Lab: l, asker: l.Pod("asker").Addr(false), stand: map[string]standing{}, counts: figures{}}
	pod := netip.AddrPortFrom(l.Pod("new").Addr(false), podPort)
	p.targets = map[string]netip.AddrPort{forwarded: pod, straightTCP: pod, straightUDP: pod}
	if contender != nobody && contender != conntrack {
		at := netip.AddrPortFrom(pathTarget().ClusterIPs[0], servicePort)
		p.targets[established], p.targets[newTCP], p.targets[newUDP] = at, at, at
	}
	port, err := net.InterfaceByName("caliasker")
	if err == nil {
		p.node = port.HardwareAddr
		err = errors.Join(p.serve("old"), p.serve("new"))
	}
	if err == nil {
		err = l.Pod("asker").Do(p.prepare)
	}
	if err == nil {
		err = deafen(l, "old", "new")
	}
	if err == nil && contender != nobody { // where either would start what is not to be there
		err = errors.Join(quicken(), p.count())
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// serve lets a pod answer what is said to it with the same.
func (p *path) serve(pod string) error {
	return p.Pod(pod).Do(func() error {
		at, err := net.Listen("tcp4", fmt.Sprintf(":%d", podPort))
		if err != nil {
			return err
		}
		p.servers = append(p.servers, at)
		go func() {
			for c, err := at.Accept(); err == nil; c, err = at.Accept() {
				go io.Copy(c, c)
			}
		}()
		return nil
	})
}

// prepare opens, as the pod that asks, its link and the connections that stand.
func (p *path) prepare() error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	p.pod = link.HardwareAddr
	if p.sender, err = newSender(link); err != nil {
		return err
	}
	for _, way := range []string{forwarded, established} {
		if to, ok := p.targets[way]; ok {
			if p.stand[way], err = stand(to); err != nil {
				return fmt.Errorf("connect to %v: %w", to, err)
			}
		}
	}
	return nil
}

// stand connects, and returns the segment that would acknowledge once more what is acknowledged.
func stand(to netip.AddrPort) (standing, error) {
	dialer := net.Dialer{KeepAlive: -1}
	c, err := dialer.Dial("tcp4", to.String())
	if err != nil {
		return standing{}, err
	}
	s := standing{c, segment{proto: ipvs.TCP, to: to, flags: tcpACK}}
	s.from = c.LocalAddr().(*net.TCPAddr).AddrPort()
	buffer := make([]byte, 256)
	if _, err = fmt.Fprintln(c, 1); err == nil { // a request, and its reply: both sides have sent, and the connection stands
		_, err = c.Read(buffer)
	}
	if err == nil {
		err = s.number(c.(*net.TCPConn))
	}
	if err != nil {
		return standing{}, errors.Join(err, c.Close())
	}
	return s, nil
}

// number asks the socket for its sequence numbers, which it tells while it is under repair (tcp(7), TCP_REPAIR).
func (s *standing) number(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		const receive, send = 1, 2
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
		for queue, into := range map[int]*uint32{receive: &s.ack, send: &s.seq} {
			err1 := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue)
			n, err2 := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			*into, failed = uint32(n), errors.Join(failed, err1, err2)
		}
		// It ends without a word: -1 leaves repair without asking whether the other end is there.
		failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, -1))
	})
	return errors.Join(err, failed)
}

func (p *path) close() error {
	var errs []error
	for _, s := range p.stand {
		errs = append(errs, s.Close())
	}
	for _, s := range p.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, p.sender.close(), p.Lab.Close())...)
}

// turn sends packets all ways.
func (p *path) turn() (figures, error) {
	seen := maps.Clone(p.counts)
	for way := range p.targets {
		often, size := pathOften, pathBatch
		if p.begins(way) {
			often, size = newOften, newBatchSize
		}
		if _, err := p.pass(way, pathWarm); err != nil {
			return nil, err
		}
		var times []float64
		for range often {
			each, err := p.pass(way, size)
			if err != nil {
				return nil, err
			}
			times = append(times, each)
		}
		seen[way] = slices.Min(times)
	}
	return seen, nil
}

// pass sends that many packets one way, and returns the seconds for each.
func (p *path) pass(way string, n int) (each float64, err error) {
	frames, resets := p.frames(way, n)
	if each, err = p.send(newBatch(frames)); err == nil {
		_, err = p.send(newBatch(resets))
	}
	return each, err
}

// begins reports whether packets that go a way are each the first of something.
func (p *path) begins(way string) bool {
	_, stands := p.stand[way]
	return !stands
}

// frames returns so many frames that go one way, and those that end the connections of TCP that they begin: IPVS would
// remember these for a minute.
func (p *path) frames(way string, n int) (frames, resets [][]byte) {
	for range n {
		s := p.stand[way].segment
		if p.begins(way) {
			s = segment{proto: ipvs.TCP, from: p.source(), to: p.targets[way], flags: tcpSYN, seq: 1}
		}
		if way == newUDP || way == straightUDP {
			s.proto = ipvs.UDP
		}
		frames = append(frames, p.frame(s))
		if s.flags == tcpSYN && s.proto == ipvs.TCP {
			s.flags, s.seq = tcpRST, 2
			resets = append(resets, p.frame(s))
		}
	}
	return frames, resets
}

// source returns where something new comes from.
func (p *path) source() netip.AddrPort {
	const first, last = 10_000, 30_000 // below those that the kernel gives
	if p.port++; p.port < first || p.port > last {
		p.port = first
	}
	return netip.AddrPortFrom(p.asker, p.port)
}

// count counts the rules and sets that packets meet, each way.
func (p *path) count() error {
	before, err := saveCounters()
	if err != nil {
		return err
	}
	for way := range p.targets {
		frames, resets := p.frames(way, pathBatch)
		if _, err := p.send(newBatch(frames)); err != nil {
			return err
		}
		after, err := saveCounters()
		if err != nil {
			return err
		}
		rules, sets := after.since(before).evaluated()
		p.counts["rules "+way], p.counts["sets "+way] = rules/pathBatch, sets/pathBatch
		if _, err := p.send(newBatch(resets)); err != nil {
			return err
		}
		if before = after; resets != nil {
			if before, err = saveCounters(); err != nil {
				return err
			}
		}
	}
	return nil
}
