//go:build cluster

package apiserver

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A path is the way to an API server. Its connections can be made to hang: both ends keep them, and nothing arrives.
type path struct {
	listener net.Listener
	to       string

	done <-chan struct{} // of the test

	mu   sync.Mutex
	open map[*atomic.Bool]struct{} // whether each connection hangs
}

func newPath(t *testing.T, url string) *path {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &path{listener: l, to: strings.TrimPrefix(url, "https://"), done: t.Context().Done(), open: map[*atomic.Bool]struct{}{}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *path) url() string { return "https://" + p.listener.Addr().String() }

func (p *path) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	hangs := &atomic.Bool{}
	p.mu.Lock()
	p.open[hangs] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, hangs)
	}()
	go p.carry(server, client, hangs)
	p.carry(client, server, hangs)
}

// carry copies what arrives, as long as the connection does not hang.
func (p *path) carry(to, from net.Conn, hangs *atomic.Bool) {
	defer to.Close()
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		if hangs.Load() {
			<-p.done
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hang lets all present connections hang for good, and returns how many there are.
func (p *path) hang() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for hangs := range p.open {
		hangs.Store(true)
	}
	return len(p.open)
}
