package main

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// logFile gets what the program prints.
const logFile = "/run/program.log"

// A process is a life of the program under test.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when it has ended
}

func (a *agent) start(*http.Request) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.process != nil {
		return "", errors.New("the program runs already")
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer log.Close()
	p := &process{command: exec.Command(a.program[0], a.program[1:]...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = log, log
	if err := p.command.Start(); err != nil {
		return "", err
	}
	go func() {
		defer close(p.ended)
		_ = p.command.Wait() // how it ended is in the command's state
	}()
	a.process = p
	return "", nil
}

func (a *agent) end(r *http.Request) (string, error) {
	signal, err := strconv.Atoi(r.URL.Query().Get("signal"))
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.process
	if p == nil {
		return "", errors.New("the program does not run")
	}
	select {
	case <-p.ended:
		return "", errors.New("the program has ended by itself: " + p.command.ProcessState.String())
	default:
	}
	if err := p.command.Process.Signal(syscall.Signal(signal)); err != nil {
		return "", err
	}
	<-p.ended
	a.process = nil
	return p.command.ProcessState.String(), nil
}

func (a *agent) log(*http.Request) (string, error) {
	text, err := os.ReadFile(logFile)
	return string(text), err
}
