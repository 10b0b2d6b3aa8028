package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// kernel is something that can run a job.
type kernel interface {
	// command returns what to start: a process that is, or becomes, the kernel in which processOne runs the job of dir.
	// Its file descriptors 3 and 4 will be the program's standard output and error; its own extra files follow.
	command(dir string, o options) (*exec.Cmd, error)
	// machine says what to prepare; nil if the kernel runs already.
	machine() *machine
}

// session is one program in one kernel, from the first preparation until nothing is left of it.
type session struct {
	dir     string // private; job, outcome and the kernel's own files
	cmd     *exec.Cmd
	console tail // what the kernel said
	streams sync.WaitGroup
}

// newSession prepares the private folder and the command; nothing runs yet.
func newSession(k kernel, o options) (*session, error) {
	j, err := newJob(o.argv, o.env)
	if err != nil {
		return nil, err
	}
	j.Machine = k.machine()
	dir, err := os.MkdirTemp("", "inkernel-")
	if err != nil {
		return nil, err
	}
	s := &session{dir: dir}
	if s.cmd, err = k.command(dir, o); err == nil {
		err = errors.Join(visible(dir), j.write(dir))
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	// A group of its own: one signal ends the kernel with all its helper processes.
	if s.cmd.SysProcAttr == nil {
		s.cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	s.cmd.SysProcAttr.Setpgid = true
	return s, nil
}

// close removes what the session left on disk.
func (s *session) close() error { return os.RemoveAll(s.dir) }

// run starts the kernel and waits for its end, which comes at the latest with the context's. It returns the program's
// exit status; context.Cause(ctx) if that ended it; or an error with the kernel's last words.
func (s *session) run(ctx context.Context) (int, error) {
	if err := s.start(); err != nil {
		return 0, err
	}
	group := s.cmd.Process.Pid
	guard, err := startGuard(group)
	if err != nil {
		unix.Kill(-group, unix.SIGKILL)
		return 0, errors.Join(err, s.cmd.Wait())
	}
	stopped := context.AfterFunc(ctx, func() { unix.Kill(-group, unix.SIGKILL) })
	died := s.cmd.Wait()
	killed := !stopped()
	unix.Kill(-group, unix.SIGKILL) // helper processes can outlive the kernel, and hold our pipes
	guard.dismiss()
	s.streams.Wait()

	end, err := readOutcome(s.dir)
	switch {
	case err == nil && end.Failure != "":
		return 0, errors.New(end.Failure)
	case err == nil:
		return end.Status, nil
	case killed:
		return 0, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("the test kernel died (%v); its last words:\n%s", died, s.console.String())
	}
	return 0, err
}

// start starts the kernel, with a pipe each for its console and for the program's streams.
func (s *session) start() error {
	var ends [3]*os.File
	for i, to := range []io.Writer{&s.console, os.Stdout, os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		ends[i] = w
		s.streams.Go(func() { drain(to, r) })
	}
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = ends[0], ends[0], append(ends[1:], s.cmd.ExtraFiles...)
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start the test kernel: %w", err)
	}
	return nil
}

// drain copies r to its end. If nobody takes what it copies, it goes on: that must not block the program.
func drain(to io.Writer, r *os.File) {
	defer r.Close()
	io.Copy(to, r)
	io.Copy(io.Discard, r)
}

// guard is a process that outlives us: however we end, SIGKILL included, no kernel stays behind.
type guard struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

func startGuard(group int) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", "read line; kill -KILL -"+strconv.Itoa(group))
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the kernel's guard: %w", err)
	}
	return &guard{cmd, pipe}, nil
}

// dismiss ends the guard without letting it act: the group's number may belong to somebody else soon.
func (g *guard) dismiss() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.pipe.Close()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailLength; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
