package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// A process is a running server. It dies with the test that started it, even if that is killed.
type process struct {
	name    string
	command *exec.Cmd
	log     string        // path of the file that gets what it prints
	done    chan struct{} // closed when it has ended
}

// startProcess starts the command in the folder and collects there what it prints, in NAME.log.
func startProcess(name string, command *exec.Cmd, dir string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Dir, command.Stdout, command.Stderr = dir, log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	p := &process{name: name, command: command, log: log.Name(), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread ends that started the process (prctl(2), PR_SET_PDEATHSIG), so the
		// thread stays until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := command.Start()
		started <- err
		if err == nil {
			command.Wait() // how it ended shows in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process and waits until it is gone. What it kept is thrown away, so there is nothing to finish.
func (p *process) kill() error {
	err := p.command.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// lastWords returns the end of what the process printed as an error.
func (p *process) lastWords() error {
	const most = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	text = text[max(0, len(text)-most):]
	return fmt.Errorf("%s, at the end of its log:\n%s", p.name, strings.TrimSpace(string(text)))
}
