//go:build kernel

package survive

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kube-ipvs/test/child"
)

var programPath = flag.String("program", "../../.bin/kube-ipvs", "the kube-ipvs to run")

// A program is the kube-ipvs that make build builds.
type program struct {
	*child.Program
	t *testing.T
}

func newProgram(t *testing.T, manifests string) *program {
	t.Helper()
	path, err := filepath.Abs(*programPath)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/run", "kube-ipvs-")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, Program: &child.Program{Path: path, Log: filepath.Join(dir, "log"), Env: []string{"GORACE=halt_on_error=1"}, Args: []string{
		"--manifests=" + manifests, "--hostname-override=node1", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
		"--drain-limit=2s", "--healthz-bind-address=" + child.Healthz,
	}}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.LastWords())
		}
		p.terminate()
		p.clean()
		check(t, os.RemoveAll(dir))
	})
	return p
}

// start starts the program and does not wait for it.
func (p *program) start() {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the program as the kernel does when there is no memory left.
func (p *program) kill() {
	p.t.Helper()
	check(p.t, p.Kill())
}

// terminate ends the program as its supervisor does.
func (p *program) terminate() {
	p.t.Helper()
	check(p.t, p.Stop())
}

// clean removes what the program left.
func (p *program) clean() {
	p.t.Helper()
	check(p.t, p.Clean(context.Background()))
}

// healthy says whether the program says of itself that it is.
func (p *program) healthy() bool { return child.Healthy(context.Background()) }

// synced says whether the program has ended a look at everything that changed after that moment, and all was well.
func (p *program) synced(since time.Time) bool {
	return child.Synced(context.Background(), since) && p.healthy()
}

// metric returns the value of a metric of the program.
func (p *program) metric(name string) (float64, error) {
	return child.Metric(context.Background(), name)
}
