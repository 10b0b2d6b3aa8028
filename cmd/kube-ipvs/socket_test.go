package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/plan"
)

// A socket that nobody serves is replaced; one that is served, and any other file, is not. Only its owner may use it.
func TestListenLocal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  func(path string) error
		wantErr string
	}{
		{"nothing there", func(string) error { return nil }, ""},
		{"left by a killed process", func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, ""},
		{"served", func(path string) error {
			l, err := net.Listen("unix", path)
			t.Cleanup(func() { _ = l.Close() })
			return err
		}, "another process serves"},
		{"a file", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }, "is no socket"},
		{"a link to a file", func(path string) error { return os.Symlink("/etc/hostname", path) }, "is no socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "made", "socket")
			if tt.name != "nothing there" {
				path = filepath.Join(filepath.Dir(filepath.Dir(path)), "socket")
			}
			if err := tt.before(path); err != nil {
				t.Fatal(err)
			}
			l, err := listenLocal(path)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("%v, want %s", err, tt.wantErr)
				}
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("it was removed: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("%v %v, want a socket for its owner alone", info.Mode(), err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it stays when nobody listens any more: %v", err)
			}
		})
	}
}

// Users other than the superuser and the program's own get no answer, whatever the file's mode.
func TestSocketRejectsOtherUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := listenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan int, 1)
	local := l.(*localListener)
	local.trusts = func(uid int) bool { asked <- uid; return false }
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid := <-asked; uid != os.Geteuid() {
		t.Errorf("it is told to be the user %d's, want %d", uid, os.Geteuid())
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%d bytes and %v, want the end", n, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Idle clients beyond the limit wait, and the others are answered.
func TestSocketBoundsItsClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	var mu sync.Mutex
	most, now := 0, 0
	release := make(chan struct{})
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-release
		mu.Lock()
		now--
		mu.Unlock()
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveSocket(ctx, path, handler) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
				return conn, nil
			}
			time.Sleep(time.Millisecond)
		}
	}}}
	var all sync.WaitGroup
	for range 2 * maxClients {
		all.Go(func() {
			response, err := client.Get("http://x/")
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
		})
	}
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		mu.Lock()
		full := now == maxClients
		mu.Unlock()
		if full {
			break
		}
	}
	time.Sleep(50 * time.Millisecond) // for one more, were there any
	close(release)
	all.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if most != maxClients {
		t.Errorf("%d at once, want %d", most, maxClients)
	}
}

// A node's state has the reason why it is not ready, and names another proxy.
func TestNodeState(t *testing.T) {
	p := &proxy{config: &config.Config{VIPMode: config.Divert}, state: health.NewState(time.Hour), problems: newNodeReporter(logr.Discard(), func(kube.Event) {})}
	p.handlers = &health.Handlers{State: p.state, Alone: func() bool { return !p.problems.concern(ipvsmode.KubeProxy) }}
	problem := func(field, reason string) []plan.Problem { return []plan.Problem{{Field: field, Reason: reason}} }
	for _, tt := range []struct {
		name   string
		do     func()
		reason string
	}{
		{"another proxy runs", func() { p.problems.report("kube-proxy", problem(ipvsmode.KubeProxy, "it runs")) }, "kube-proxy: it runs"},
		{"it has ended", func() { p.problems.report("kube-proxy", nil) }, "not everything was programmed yet since the start"},
		{"all is programmed", func() { p.state.Converged(nil) }, ""},
		{"a problem that does not keep it from its work", func() { p.problems.report("bridge", problem("bridge-nf-call-iptables", "is off")) }, ""},
		{"another proxy comes back", func() { p.problems.report("loop", problem(ipvsmode.KubeProxy, "its rules are back")) }, "kube-proxy: its rules are back"},
	} {
		tt.do()
		if n := p.nodeState(); n.Reason != tt.reason || n.Ready != (tt.reason == "") || n.VIPMode != "divert" {
			t.Errorf("%s: %+v, want the reason %q", tt.name, n, tt.reason)
		}
	}
	if n := p.nodeState(); n.Synced.IsZero() || len(n.Problems) != 2 {
		t.Errorf("%+v, want when all was programmed, and 2 problems", n)
	}
}
