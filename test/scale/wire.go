package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// A wire counts all that a client and an API server send each other: what TCP carries, with TLS and HTTP/2.
type wire struct {
	in, out, requests atomic.Int64

	mu   sync.Mutex
	open []*counted
}

// under lets a client use the wire.
func (w *wire) under(c *rest.Config) {
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.open = append(w.open, &counted{Conn: conn, wire: w})
		return w.open[len(w.open)-1], nil
	}
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, w} })
}

// cut ends all connections. To the client it seems that the API server did.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.cut.Store(true)
		c.Close() // one that has ended is as good
	}
	w.open = nil
}

type counted struct {
	net.Conn
	wire *wire
	cut  atomic.Bool
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.in.Add(int64(n))
	if err != nil && c.cut.Load() {
		err = io.EOF
	}
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wire.out.Add(int64(n))
	return n, err
}

type counting struct {
	next http.RoundTripper
	wire *wire
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.wire.requests.Add(1)
	return c.next.RoundTrip(r)
}
