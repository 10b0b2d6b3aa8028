package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/page"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/status"
)

const (
	// maxClients bounds the connections to the socket; others wait until one ends.
	maxClients = 16
	// socketRetry is the time between attempts to listen.
	socketRetry = 30 * time.Second
)

// browser returns the handler of the page for a browser, which has the same answers as the socket, or nil.
func (p *proxy) browser(answers http.Handler) http.Handler {
	if p.config.Page == config.PageNone {
		return nil
	}
	return page.New(page.Config{Node: p.source.Node().Name, All: p.config.Page == config.PageAll, Answers: answers})
}

// serveStatus answers the subcommands at the socket until the context ends. Without a socket, as in a read-only file system, the
// proxy does its work all the same.
func (p *proxy) serveStatus(ctx context.Context, answers http.Handler) error {
	logged := ""
	for ctx.Err() == nil {
		err := serveSocket(ctx, p.config.Socket, answers)
		if err != nil && ctx.Err() == nil && err.Error() != logged {
			logged = err.Error()
			klog.FromContext(ctx).Error(err, "Subcommands such as \"kube-ipvs get\" get no answer", "socket", p.config.Socket, "retryAfter", socketRetry)
		}
		wait(ctx, socketRetry)
	}
	return nil
}

// newStatus returns the server of what an operator sees. It answers from the loop once there is one.
func (p *proxy) newStatus() *status.Server {
	return &status.Server{
		Meter: ipvsmode.Meter{Table: p.kernel.Counters, Settings: p.kernel.Sysctl}, Node: p.source.Node().Name, DrainLimit: p.config.DrainLimit, Pods: p.pods,
		State: p.nodeState, Begun: p.begun.Load,
	}
}

// begin lets the server of what an operator sees answer from the loop.
func (p *proxy) begin(l *loop.Loop) {
	p.status.Loop = l
	p.begun.Store(true)
}

// nodeState returns what is known of this node beside the loop.
func (p *proxy) nodeState() status.Node {
	_, synced := p.state.Healthy()
	n := status.Node{
		Version: version, Mode: string(config.ModeIPVS), VIPMode: string(p.config.VIPMode), Started: p.started, Problems: p.problems.current(),
		Synced: synced, Waits: p.state.Waits(), Reason: p.handlers.Unready(),
	}
	for _, problem := range n.Problems {
		if strings.HasPrefix(problem, ipvsmode.KubeProxy+": ") { // it names the other proxy, also while this one waits for its end
			n.Reason = problem
		}
	}
	n.Ready = n.Reason == ""
	entries, errEntries := readNumber(filepath.Join(p.config.ProcSys, conntrackCount))
	limit, errLimit := readNumber(filepath.Join(p.config.ProcSys, conntrackMax))
	if errEntries == nil && errLimit == nil {
		n.Conntrack = &status.Room{Entries: entries, Limit: limit}
	}
	return n
}

// serveSocket serves HTTP at a local socket until the context ends.
func serveSocket(ctx context.Context, path string, handler http.Handler) error {
	l, err := listenLocal(path)
	if err != nil {
		return err
	}
	return serveHTTP(ctx, netutil.LimitListener(l, maxClients), &http.Server{
		Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 14,
	})
}

// listenLocal listens at a socket that only the superuser and this process's user may use. A socket that nobody serves any more
// is replaced; another kind of file is not.
func listenLocal(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists, and is no socket", path)
	default:
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("another process serves %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Whoever connects before the mode is set is rejected by its user all the same.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &localListener{Listener: l, trusts: isTrusted}, nil
}

// A localListener accepts the connections of trusted users only.
type localListener struct {
	net.Listener
	trusts func(uid int) bool
}

// Accept implements net.Listener.
func (l *localListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(conn); err == nil && l.trusts(uid) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// peer returns the user of the process at the other end of a local connection, as the kernel knows it.
func peer(conn net.Conn) (uid int, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var unknown error
	if err := raw.Control(func(fd uintptr) { cred, unknown = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return -1, err
	}
	if unknown != nil {
		return -1, unknown
	}
	return int(cred.Uid), nil
}
