package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// lockName is an abstract socket's, which belongs to a network namespace, as all does that is programmed, and is gone with the
// process that has it, however that ends. Anybody in the network namespace may take it: who has it counts if that is a kube-ipvs
// by its user.
const lockName = "@kube-ipvs"

const (
	// lockWait is how long a new instance waits for an old one to end: longer than a pod that was deleted with force goes on beside
	// its successor, which is for its grace period at most. A rollout has no two on a node: both would want the same ports of it.
	lockWait = 2 * time.Minute
	// lockPause is how long to wait before looking again.
	lockPause = 200 * time.Millisecond
	// mostSilent is how often who has the lock may give no answer: a kube-ipvs that has just begun or just ended gives none.
	mostSilent = 5
)

// errLocked is what helps: two that have other flags, or one that removes, would mend each other's work for ever.
var errLocked = errors.New("another kube-ipvs runs in this network namespace (ss -xlp src " + lockName + "): stop it first")

// A locker takes a lock.
type locker struct {
	name   string
	trusts func(uid int) bool // reports whether a user's processes may have the lock
	wait   time.Duration      // for who has it
}

// isTrusted reports whether a user is the superuser or our own.
func isTrusted(uid int) bool { return uid == 0 || uid == os.Geteuid() }

// lock keeps others from programming this network namespace until it is unlocked. Only processes of the superuser's, or of our own user's,
// keep us from it; for one of those it waits.
func lock(ctx context.Context, wait time.Duration) (unlock func() error, err error) {
	return locker{name: lockName, trusts: isTrusted, wait: wait}.lock(ctx)
}

func (l locker) lock(ctx context.Context) (unlock func() error, err error) {
	log := klog.FromContext(ctx)
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	told, silent := false, 0
	for begin := time.Now(); ; {
		listener, err := net.Listen("unix", l.name)
		switch {
		case err == nil:
			go acceptAll(listener)
			return listener.Close, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, fmt.Errorf("lock the network namespace: %w", err)
		}
		uid, err := holder(l.name)
		switch {
		case err == nil && l.trusts(uid):
			if time.Since(begin) >= l.wait {
				return nil, errLocked
			}
			if silent = 0; !told {
				log.Info("Another kube-ipvs runs in this network namespace: waiting for its end", "limit", l.wait)
				told = true
			}
		case err == nil || silent == mostSilent:
			log.Info("What has the lock of this network namespace cannot be kube-ipvs: starting without", "socket", l.name, "uid", uid, "err", err)
			return func() error { return nil }, nil
		default:
			silent++
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// acceptAll accepts those that ask who has the lock: the kernel tells them, and lets in only so many who nobody accepts.
func acceptAll(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

// holder returns the user of the process that listens at a socket, as the kernel knows it.
func holder(name string) (uid int, err error) {
	conn, err := net.DialTimeout("unix", name, time.Second)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	return peer(conn)
}
