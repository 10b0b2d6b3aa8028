//go:build kernel

package survive

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program is the kube-ipvs that make build builds, as a child process.
type program struct {
	t    *testing.T
	path string
	args []string
	log  *os.File
	cmd  *exec.Cmd // nil: it does not run
}

func newProgram(t *testing.T, manifests string) *program {
	t.Helper()
	path, err := filepath.Abs("../../.bin/kube-ipvs")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.CreateTemp("/run", "kube-ipvs-log-")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, path: path, log: log, args: []string{
		"--manifests=" + manifests, "--hostname-override=node1", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
		"--drain-limit=2s", "--healthz-bind-address=127.0.0.1:10256",
	}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of kube-ipvs's log:\n%s", p.lastWords())
		}
		if p.cmd != nil {
			p.terminate()
		}
		p.clean()
		check(t, log.Close())
		check(t, os.Remove(log.Name()))
	})
	return p
}

// start starts the program and does not wait for it.
func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the program as the kernel does when there is no memory left.
func (p *program) kill() {
	p.t.Helper()
	check(p.t, p.cmd.Process.Kill())
	if err := p.cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		p.t.Errorf("the program ended before it was killed: %v", err)
	}
	p.cmd = nil
}

// terminate ends the program as its supervisor does.
func (p *program) terminate() {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	check(p.t, p.cmd.Wait())
	p.cmd = nil
}

// clean removes what the program left.
func (p *program) clean() {
	p.t.Helper()
	if out, err := exec.Command(p.path, "--cleanup").CombinedOutput(); err != nil {
		p.t.Errorf("kube-ipvs --cleanup: %v: %s", err, out)
	}
}

// healthy says whether the program says of itself that it is.
func (p *program) healthy() bool {
	_, err := get("http://127.0.0.1:10256/healthz")
	return err == nil
}

// synced says whether the program has ended a look at everything that changed after that moment.
func (p *program) synced(since time.Time) bool {
	at, err := p.metric("kubeproxy_sync_proxy_rules_last_timestamp_seconds")
	return err == nil && at >= float64(since.UnixNano())/1e9 && p.healthy()
}

// metric returns the value of a metric of the program, by its name with its labels.
func (p *program) metric(name string) (float64, error) {
	text, err := get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return 0, err
	}
	_, after, there := strings.Cut(text, "\n"+name+" ")
	if !there {
		return 0, fmt.Errorf("no metric %s", name)
	}
	value, _, _ := strings.Cut(after, "\n")
	return strconv.ParseFloat(value, 64)
}

// lastWords returns the end of the program's log.
func (p *program) lastWords() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

var client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns what a URL answers with the status 200.
func get(url string) (string, error) {
	response, err := client.Get(url)
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
