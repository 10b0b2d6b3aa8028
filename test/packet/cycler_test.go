//go:build kernel

package packet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/test/lab"
)

// A cycler connects from the same few ports over and over, as a busy client does.
type cycler struct {
	host  *lab.Host
	to    netip.AddrPort // IPv4
	ports int
	reset bool          // ends connections by a reset; else by closing them first
	wait  time.Duration // for an answer

	made    int
	took    time.Duration
	slowest time.Duration
	resent  int // how many had to send something again, which is their SYN
	who     map[string]int
}

// firstPort is the lowest port of cyclers. The kernel gives it to nobody by itself.
const firstPort = 20000

// leastCycle is the time for one round of the ports: a port whose connection was closed is free after a second.
const leastCycle = 1200 * time.Millisecond

// reuseTimeWait lets the host use a port again one second after its connection was closed.
func (c *cycler) reuseTimeWait() error {
	return c.host.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0) })
}

// cycle connects once from each port, and fails the test for each connection that fails.
func (c *cycler) cycle(t *testing.T) {
	t.Helper()
	if c.who == nil {
		c.who = map[string]int{}
	}
	begin := time.Now()
	for i := range c.ports {
		if !c.reset {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * leastCycle / time.Duration(c.ports))))
		}
		start := time.Now()
		who, err := c.ask(uint16(firstPort + i))
		if err != nil {
			t.Errorf("from port %d: %v", firstPort+i, err)
			continue
		}
		c.slowest = max(c.slowest, time.Since(start))
		c.made++
		c.who[who]++
	}
	if !c.reset {
		time.Sleep(time.Until(begin.Add(leastCycle)))
	}
	c.took += time.Since(begin)
}

// rate is how many connections it made in a second.
func (c *cycler) rate() float64 { return float64(c.made) / c.took.Seconds() }

// shares says who got how many connections.
func (c *cycler) shares() []string {
	var out []string
	for _, who := range slices.Sorted(maps.Keys(c.who)) {
		out = append(out, fmt.Sprintf("%s %d", who, c.who[who]))
	}
	return out
}

// ask makes one connection and returns the name of who answered.
func (c *cycler) ask(port uint16) (who string, err error) {
	fd, err := c.connect(port)
	if err != nil {
		return "", err
	}
	who, err = exchange(fd)
	if info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err == nil && info.Total_retrans > 0 {
		c.resent++
	}
	return who, errors.Join(err, unix.Close(fd))
}

// connect makes a socket in the host's namespace and connects it.
func (c *cycler) connect(port uint16) (fd int, err error) {
	err = c.host.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return -1, err
	}
	err = c.prepare(fd, port)
	if err == nil {
		to := &unix.SockaddrInet4{Port: int(c.to.Port()), Addr: c.to.Addr().As4()}
		err = uninterrupted(func() error { return unix.Connect(fd, to) })
		if errors.Is(err, unix.EISCONN) { // it was interrupted when it had connected
			err = nil
		}
		err = os.NewSyscallError("connect", err)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (c *cycler) prepare(fd int, port uint16) error {
	wait := unix.NsecToTimeval(int64(c.wait))
	err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
	)
	if c.reset {
		err = errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	}
	return errors.Join(err, os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})))
}

// exchange sends a request and reads its answer (lab.Server): "NUMBER NAME SOURCE".
func exchange(fd int) (who string, err error) {
	if _, err := unix.Write(fd, []byte("1\n")); err != nil {
		return "", os.NewSyscallError("write", err)
	}
	var reply [64]byte
	n := 0
	err = uninterrupted(func() (err error) { n, err = unix.Read(fd, reply[:]); return err })
	if fields := bytes.Fields(reply[:max(n, 0)]); len(fields) == 3 {
		return string(fields[1]), nil
	}
	return "", fmt.Errorf("read: %q, %w", reply[:max(n, 0)], err)
}

// uninterrupted calls again while a signal, such as the Go runtime's own, interrupts the call.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
