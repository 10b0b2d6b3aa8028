// Package child runs proxies as the programs that they are, kube-ipvs and kube-proxy: a test starts, asks and ends them.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A Program is started and ended as often as a test wants. It dies with the process that started it. Its methods are for
// one goroutine at a time.
type Program struct {
	Path string
	Args []string
	Env  []string // more variables of its environment, which win
	Log  string   // path of a file that gets what it prints, life after life
	life *life    // nil: it does not run, or nobody has asked yet how it ended
}

// A life of a program.
type life struct {
	process *os.Process
	ended   chan struct{} // closed when it has ended
	err     error         // how, to be read then
}

// Start starts the program and does not wait for it.
func (p *Program) Start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l, started := &life{ended: make(chan struct{})}, make(chan error)
	go l.live(cmd, started)
	if err := <-started; err != nil {
		return err
	}
	p.life = l
	return nil
}

// live starts the process and waits until it has ended.
func (l *life) live(cmd *exec.Cmd, started chan<- error) {
	// The death signal comes when the thread ends that started the process (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(l.ended)
	err := cmd.Start()
	l.process = cmd.Process
	started <- err
	if err == nil {
		l.err = cmd.Wait()
	}
}

// Pid is the number of the process, of a program that runs.
func (p *Program) Pid() int { return p.life.process.Pid }

// Runs says that the program was started and not ended since. It may have ended by itself: see Alive.
func (p *Program) Runs() bool { return p.life != nil }

// Alive is an error if the program has ended by itself.
func (p *Program) Alive() error {
	if p.life == nil {
		return nil
	}
	select {
	case <-p.life.ended:
		return errors.Join(fmt.Errorf("%s has ended by itself", p.name()), p.life.err)
	default:
		return nil
	}
}

// Kill ends the program as the kernel does when there is no memory left.
func (p *Program) Kill() error {
	err := errors.Join(p.Alive(), p.life.process.Kill())
	<-p.life.ended
	p.life = nil
	return err
}

// Stop ends the program as its supervisor does, and returns how it ended. That it does not run is success.
func (p *Program) Stop() error {
	const patience = time.Minute
	if p.life == nil {
		return nil
	}
	l := p.life
	p.life = nil
	err := l.process.Signal(syscall.SIGTERM)
	select {
	case <-l.ended:
		return errors.Join(err, l.err)
	case <-time.After(patience):
	}
	err = errors.Join(err, fmt.Errorf("%s does not end after SIGTERM", p.name()), l.process.Kill())
	<-l.ended
	return err
}

// Clean runs the program once more, to remove what it left.
func (p *Program) Clean(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, p.Path, "--cleanup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --cleanup: %w\n%s", p.name(), err, out)
	}
	return nil
}

// Until waits until something holds, with a look every now and then. What ends it else is the context, or the end of the
// program.
func (p *Program) Until(ctx context.Context, pause time.Duration, holds func() bool) error {
	for !holds() {
		if err := p.Alive(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", p.name(), ctx.Err())
		case <-time.After(pause):
		}
	}
	return nil
}

// LastWords returns the end of what the program printed as an error.
func (p *Program) LastWords() error {
	const most = 4000
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s, at the end of its log:\n%s", p.name(), strings.TrimSpace(string(text[max(0, len(text)-most):])))
}

func (p *Program) name() string { return filepath.Base(p.Path) }
