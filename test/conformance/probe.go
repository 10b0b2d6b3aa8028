package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"kube-ipvs/test/kept"
)

// A target is where a prober connects to: a frontend of a Service, or a pod itself.
type target struct {
	Name  string
	Proto string // tcp or udp
	At    netip.AddrPort
}

// Counts are what probers saw of connections that they keep, and of new ones.
type counts struct {
	Held, Broken int
	New, Failed  int
	Late         int           // of the new ones: a second and more passed, so that something was sent again
	Longest      time.Duration // of the new ones
	Why          []string      // of what was broken, failed or late; the first few
}

// mostWhy bounds the reasons that are kept.
const mostWhy = 20

func (c *counts) add(o counts) {
	c.Held, c.Broken, c.New, c.Failed, c.Late = c.Held+o.Held, c.Broken+o.Broken, c.New+o.New, c.Failed+o.Failed, c.Late+o.Late
	c.Longest = max(c.Longest, o.Longest)
	for _, why := range o.Why {
		c.note("%s", why)
	}
}

func (c *counts) note(format string, args ...any) {
	if len(c.Why) < mostWhy {
		c.Why = append(c.Why, fmt.Sprintf(format, args...))
	}
}

// The times of a prober. A server that stands still for answerWait has lost the connection; the machine is slow.
const (
	heldPause  = time.Second
	answerWait = 30 * time.Second
	newWait    = 10 * time.Second
	late       = time.Second
	newPause   = 500 * time.Millisecond
)

// newEverySecond is how many connections all probers begin: two for each node and one outside.
const newEverySecond = (2*fewNodes + 1) * int(time.Second/newPause)

// runProbe is the command "probe": it keeps a connection to each target and begins new ones in turn until it gets SIGTERM, and
// writes then what it saw. It creates the file once all connections are there.
func runProbe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	from := flags.String("from", "", "the `name` of where it runs")
	list := flags.String("targets", "", "`file` of targets")
	report := flags.String("report", "", "`file` for what it saw, by target")
	if err := flags.Parse(args); err != nil {
		return err
	}
	p := prober{from: *from, seen: map[string]*counts{}}
	if err := kept.Read(*list, &p.targets); err != nil {
		return err
	}
	var held []*talk
	for _, t := range p.targets {
		p.seen[t.Name] = &counts{}
		k, err := keep(ctx, t)
		if err != nil {
			return fmt.Errorf("%s to %s at %v: %w", p.from, t.Name, t.At, err)
		}
		held = append(held, k)
	}
	if err := os.WriteFile(*report, nil, 0o644); err != nil {
		return err
	}
	p.run(ctx, held)
	return kept.Write(*report, p.seen)
}

// keep returns a connection that has been answered. A Service that has just been made may take its time to serve.
func keep(ctx context.Context, t target) (*talk, error) {
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(late) {
		k, err := begin(t, newWait)
		if err == nil {
			if _, err = k.ask(newWait); err == nil {
				return k, nil
			}
			k.conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, err
		}
	}
}

// A prober counts.
type prober struct {
	from    string
	targets []target
	work    sync.WaitGroup
	mu      sync.Mutex
	seen    map[string]*counts // by target
}

func (p *prober) run(ctx context.Context, held []*talk) {
	for _, k := range held {
		p.work.Go(func() { p.hold(ctx, k) })
	}
	tick := time.NewTicker(newPause)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		<-tick.C
		p.work.Go(func() { p.try(p.targets[i%len(p.targets)]) })
	}
	p.work.Wait()
}

// hold asks over a connection again and again: the same server has to answer to the end.
func (p *prober) hold(ctx context.Context, k *talk) {
	defer k.conn.Close()
	var err error
	for ctx.Err() == nil && err == nil {
		time.Sleep(heldPause)
		who := k.who
		if _, err = k.ask(answerWait); err == nil && k.who != who {
			err = fmt.Errorf("%s answers in the place of %s", k.who, who)
		}
	}
	p.count(k.target, func(c *counts) {
		if err == nil {
			c.Held++
			return
		}
		c.Broken++
		c.note("%s to %s, held: %v at %s", p.from, k.Name, err, clock())
	})
}

// try begins a connection and asks once.
func (p *prober) try(t target) {
	start := time.Now()
	k, err := begin(t, newWait)
	if err == nil {
		_, err = k.ask(newWait)
		k.conn.Close()
	}
	took := time.Since(start)
	p.count(t, func(c *counts) {
		c.New++
		switch {
		case err != nil:
			c.Failed++
			c.note("%s to %s, new: %v at %s", p.from, t.Name, err, clock())
			return
		case took >= late:
			c.Late++
		}
		c.Longest = max(c.Longest, took)
	})
}

func (p *prober) count(t target, f func(*counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.seen[t.Name])
}

func clock() string { return time.Now().UTC().Format("15:04:05.000") }

// A talk is a connection to the program netexec of agnhost, which tells its host name.
type talk struct {
	target
	conn net.Conn
	in   *bufio.Reader
	who  string // answered last
}

func begin(t target, wait time.Duration) (*talk, error) {
	conn, err := net.DialTimeout(t.Proto, t.At.String(), wait)
	if err != nil {
		return nil, err
	}
	return &talk{target: t, conn: conn, in: bufio.NewReader(conn)}, nil
}

// ask returns who answers. It sends again what UDP may lose.
func (k *talk) ask(wait time.Duration) (who string, err error) {
	if k.Proto == "udp" {
		who, err = k.askUDP(wait)
	} else {
		who, err = k.askHTTP(wait)
	}
	if err == nil {
		k.who = who
	}
	return who, err
}

func (k *talk) askHTTP(wait time.Duration) (string, error) {
	if err := k.conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(k.conn, "GET /hostname HTTP/1.1\r\nHost: netexec\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

func (k *talk) askUDP(wait time.Duration) (string, error) {
	buffer := make([]byte, 256)
	for end := time.Now().Add(wait); ; {
		if _, err := io.WriteString(k.conn, "hostname"); err != nil {
			return "", err
		}
		if err := k.conn.SetReadDeadline(time.Now().Add(late)); err != nil {
			return "", err
		}
		n, err := k.conn.Read(buffer)
		if err == nil {
			return strings.TrimSpace(string(buffer[:n])), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return "", err
		}
	}
}
