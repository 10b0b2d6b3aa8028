//go:build kernel

package packet

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"kube-ipvs/test/lab"
)

// A talker sends a datagram every 20 ms from a port that it keeps, as resolvers and agents that report do.
type talker struct {
	name string
	conn *net.UDPConn
	stop chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	sent    []time.Time
	answers map[int]reply // by what was sent
	failed  error
}

// A reply is who answered a datagram, and when that came.
type reply struct {
	who string
	at  time.Time
}

const talkInterval = 20 * time.Millisecond

// talk begins to send.
func talk(name string, host *lab.Host, to netip.AddrPort) (*talker, error) {
	t := &talker{name: name, stop: make(chan struct{}), answers: map[int]reply{}}
	err := host.Do(func() (err error) {
		t.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.work.Go(t.send)
	t.work.Go(t.receive)
	return t, nil
}

// close ends it, and returns what went wrong apart from being refused.
func (t *talker) close() error {
	close(t.stop)
	err := t.conn.Close()
	t.work.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(err, t.failed)
}

func (t *talker) send() {
	ticks := time.NewTicker(talkInterval)
	defer ticks.Stop()
	for i := 0; ; i++ {
		t.mu.Lock()
		t.sent = append(t.sent, time.Now())
		t.mu.Unlock()
		text := fmt.Appendf(nil, "%d\n", i)
		_, err := t.conn.Write(text)
		if errors.Is(err, syscall.ECONNREFUSED) { // of an earlier one; this one was not sent
			_, err = t.conn.Write(text)
		}
		if !t.note(err) {
			return
		}
		select {
		case <-t.stop:
			return
		case <-ticks.C:
		}
	}
}

func (t *talker) receive() {
	var buffer [256]byte
	for {
		n, err := t.conn.Read(buffer[:])
		if !t.note(err) {
			return
		}
		if fields := bytes.Fields(buffer[:n]); len(fields) == 3 {
			number, _ := strconv.Atoi(string(fields[0]))
			t.mu.Lock()
			t.answers[number] = reply{string(fields[1]), time.Now()}
			t.mu.Unlock()
		}
	}
}

// note says whether to go on after an error. To be refused is an answer of a kind.
func (t *talker) note(err error) bool {
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPERM) {
		return true
	}
	if !errors.Is(err, net.ErrClosed) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.failed = errors.Join(t.failed, err)
	}
	return false
}

// A talkReport is what came of the datagrams that were sent in some time.
type talkReport struct {
	before     string          // who answered last before
	sent, lost int             // lost: never answered; what a busy machine sent at once counts once
	later      int             // how many of the lost were sent after somebody else had answered
	moved      time.Duration   // until somebody else than before answered; 0: nobody did
	when       []time.Duration // since begin, the lost were sent
	by         map[string]int  // how many each answered
	last       string          // who answered last
}

// between reports on the datagrams that were sent in some time. All that will be answered must have been. Anew says that
// who answered before does not matter.
func (t *talker) between(begin, end time.Time, anew bool) talkReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := talkReport{by: map[string]int{}}
	var lastLost time.Time
	for i, at := range t.sent {
		a, answered := t.answers[i]
		switch {
		case at.Before(begin):
			if answered && !anew {
				r.before = a.who
			}
			continue
		case !at.Before(end):
			return r
		}
		r.sent++
		if !answered {
			if at.Sub(lastLost) > talkInterval/2 {
				r.lost++
			}
			lastLost = at
			r.when = append(r.when, at.Sub(begin).Round(time.Millisecond))
			if r.moved > 0 {
				r.later++
			}
			continue
		}
		r.by[a.who]++
		r.last = a.who
		if r.moved == 0 && a.who != r.before {
			r.moved = a.at.Sub(begin)
		}
	}
	return r
}
