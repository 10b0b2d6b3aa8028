package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where the program answers.
const (
	healthz = "127.0.0.1:10256"
	metrics = "127.0.0.1:10249"
)

// How long the program may take: to start or to stop, and until the table shows a change. On an idle machine it takes two
// seconds and a few tenths of one; a draining connection adds four seconds.
const (
	patience = time.Minute
	settling = 20 * time.Second
)

// pause is the time between two looks at something that is waited for.
const pause = 100 * time.Millisecond

// A program is kube-ipvs, as a child process.
type program struct {
	path string
	args []string
	log  *os.File

	process *os.Process // nil: it does not run
	ended   chan error
}

func newProgram(path, manifests string) (*program, error) {
	log, err := os.CreateTemp(memory, "kube-ipvs-log-")
	if err != nil {
		return nil, err
	}
	return &program{path: path, log: log, args: []string{
		"--mode=ipvs", "--manifests=" + manifests, "--hostname-override=" + node,
		"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--drain-limit=2s", "--healthz-bind-address=" + healthz,
	}}, nil
}

// command returns the program's command line.
func (p *program) command() string {
	return filepath.Base(p.path) + " " + strings.Join(p.args, " ")
}

// start starts the program and returns when it is healthy and everything in its folder is programmed.
func (p *program) start(ctx context.Context) error {
	began := time.Now()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stderr = p.log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.process, p.ended = cmd.Process, ended
	return p.until(ctx, func() (bool, error) {
		_, err := get(ctx, "http://"+healthz+"/healthz")
		if err != nil {
			return false, nil
		}
		return p.synced(ctx, began)
	})
}

// stop ends the program and says whether it ended as it should.
func (p *program) stop() error {
	if p.process == nil {
		return nil
	}
	err := p.process.Signal(syscall.SIGTERM)
	if err == nil {
		select {
		case err = <-p.ended:
		case <-time.After(patience):
			err = errors.Join(errors.New("kube-ipvs does not end after SIGTERM"), p.process.Kill(), <-p.ended)
		}
	}
	p.process = nil
	return err
}

// close ends the program and forgets its log.
func (p *program) close() error {
	return errors.Join(p.stop(), p.log.Close(), os.Remove(p.log.Name()))
}

// clean runs the program once more, to remove what it left.
func (p *program) clean(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, p.path, "--cleanup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("kube-ipvs --cleanup: %w: %s", err, out)
	}
	return nil
}

// until waits until something holds.
func (p *program) until(ctx context.Context, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err := p.alive(); err != nil {
			return err
		}
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-ipvs takes more than %v", patience)
		case <-time.After(pause):
		}
	}
}

// alive is an error if the program ended by itself.
func (p *program) alive() error {
	select {
	case err := <-p.ended:
		p.process = nil
		return errors.Join(errors.New("kube-ipvs ended by itself"), err)
	default:
		return nil
	}
}

// synced says whether the program has ended a look at everything that changed after that moment.
func (p *program) synced(ctx context.Context, since time.Time) (bool, error) {
	text, err := get(ctx, "http://"+metrics+"/metrics")
	if err != nil {
		return false, nil
	}
	const name = "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds "
	_, after, there := strings.Cut(text, name)
	if !there {
		return false, fmt.Errorf("no%s in the metrics", name)
	}
	value, _, _ := strings.Cut(after, "\n")
	at, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return false, fmt.Errorf("metric%s: %w", name, err)
	}
	return at >= float64(since.UnixNano())/1e9, nil
}

// lastWords returns the end of the program's log.
func (p *program) lastWords() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return "\n" + err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\nThe last lines of kube-ipvs's log:\n" + strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// get returns what a URL answers with the status 200.
func get(ctx context.Context, url string) (text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}
