package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// The lock has one holder: the next one gets it after unlock, or after the holder was killed.
func TestLock(t *testing.T) {
	if os.Getenv("KUBE_IPVS_TEST_LOCK") != "" {
		if _, err := lock(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		select {}
	}
	unlock, err := lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(t.Context(), 0); !errors.Is(err, errLocked) {
		t.Errorf("the second: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}

	other := exec.Command(os.Args[0], "-test.run=^TestLock$")
	other.Env = append(os.Environ(), "KUBE_IPVS_TEST_LOCK=1")
	out, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(t.Context(), 0); !errors.Is(err, errLocked) {
		t.Errorf("beside another process: %v", err)
	}
	time.AfterFunc(3*lockPause, func() { _ = other.Process.Kill() })
	unlock, err = lock(t.Context(), time.Minute)
	if err != nil {
		t.Fatalf("when the other one was killed: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	_ = other.Wait() // killed
}

// Who cannot be kube-ipvs keeps nobody from starting.
func TestLockOfStrangers(t *testing.T) {
	const stranger = "cannot be kube-ipvs"
	for i, tt := range []struct {
		name   string
		hold   func(name string) (release func() error, err error)
		trusts bool
		err    error
		log    string
	}{
		{"one of ours", listens, true, errLocked, "waiting for its end"},
		{"of a user who may not", listens, false, nil, stranger},
		{"listens but accepts nobody", acceptsNobody, true, errLocked, "waiting for its end"},
		{"has the name but does not listen", binds, true, nil, stranger},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := fmt.Sprintf("@kube-ipvs-test-%d-%d", os.Getpid(), i)
			release, err := tt.hold(name)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			log := funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})
			l := locker{name: name, trusts: func(int) bool { return tt.trusts }, wait: 3 * lockPause}
			unlock, err := l.lock(klog.NewContext(t.Context(), log))
			if !errors.Is(err, tt.err) {
				t.Errorf("locked: %v, want %v", err, tt.err)
			}
			if err == nil {
				err = unlock()
			}
			if err != nil && tt.err == nil {
				t.Error(err)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], tt.log) {
				t.Errorf("logged %q, want one line with %q", lines, tt.log)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func listens(name string) (func() error, error) {
	return locker{name: name, trusts: func(int) bool { return true }}.lock(context.Background())
}

func acceptsNobody(name string) (func() error, error) {
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

func binds(name string) (func() error, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return func() error { return unix.Close(fd) }, unix.Bind(fd, &unix.SockaddrUnix{Name: name})
}

// Whoever is told to end while it waits ends at once.
func TestLockEndsWithItsContext(t *testing.T) {
	name := fmt.Sprintf("@kube-ipvs-test-%d", os.Getpid())
	release, err := listens(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockPause)
	defer cancel()
	begin := time.Now()
	_, err = locker{name: name, trusts: func(int) bool { return true }, wait: time.Hour}.lock(ctx)
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
