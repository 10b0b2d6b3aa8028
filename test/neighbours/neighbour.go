//go:build kernel && neighbours

// Package neighbours runs the programs that real nodes have beside a service proxy, as their packages or modules bring them:
// test/packet asks the proxy before one is there, beside it, after its restart and after its removal. Each lives on the node of
// a laboratory. The Makefile's target of the same name installs and builds them.
package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/test/child"
	"kube-ipvs/test/lab"
)

// A Neighbour is a program, or a few that belong together, beside a proxy. Its methods are called in the order in which they
// are listed, Stop and Start once more in between, as a restart.
type Neighbour interface {
	// Version is what the program or its package says of itself.
	Version(ctx context.Context) (string, error)
	// How tells how it is started and configured, in one line.
	How() string
	// Start starts it and returns when it is ready.
	Start(ctx context.Context) error
	// Works returns an error unless it does for its own users what it is there for.
	Works(ctx context.Context) error
	// Stop ends it as a supervisor does; what it programmed may stay.
	Stop(ctx context.Context) error
	// Remove takes away what it left, as an administrator does who is told to uninstall it. It may follow any of the others.
	Remove(ctx context.Context) error
}

// A Place is the node of a laboratory, and what neighbours need there beside packets.
type Place struct {
	*lab.Lab
	Dir string // for what they read and write; only theirs
	Bin string // where the Makefile builds what no package brings

	undo []func() error // last first
}

// Close undoes what neighbours did to the machine and cannot undo themselves.
func (p *Place) Close() error {
	var errs []error
	for len(p.undo) > 0 {
		last := len(p.undo) - 1
		errs = append(errs, p.undo[last]())
		p.undo = p.undo[:last]
	}
	return errors.Join(errs...)
}

// write writes a file of the place, and the folders that lead to it, and returns its path.
func (p *Place) write(name, text string) (string, error) {
	path := filepath.Join(p.Dir, name)
	return path, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
}

// program is one that runs on a host until it is stopped, and prints into a file of the place.
func (p *Place) program(host *lab.Host, env []string, argv ...string) (*child.Program, error) {
	path, err := netNS(host)
	if err != nil {
		return nil, err
	}
	words := append(append([]string{"--net=" + path, "env"}, env...), argv...)
	nsenter, err := exec.LookPath("nsenter")
	return &child.Program{Path: nsenter, Args: words, Log: filepath.Join(p.Dir, filepath.Base(argv[0])+".log")}, err
}

// end ends a program as its supervisor does, if it was started. How it says that it was told to is its own affair.
func end(p *child.Program) error {
	if p == nil {
		return nil
	}
	err := p.Stop()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// on runs a program on a host to its end.
func (p *Place) on(ctx context.Context, host *lab.Host, argv ...string) (string, error) {
	path, err := netNS(host)
	if err != nil {
		return "", err
	}
	return run(ctx, append([]string{"nsenter", "--net=" + path}, argv...)...)
}

// netNS is where the kernel shows a host's network namespace, by one of its threads.
func netNS(host *lab.Host) (path string, err error) {
	err = host.Do(func() error {
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		return nil
	})
	return path, err
}

// run runs a program to its end and returns what it printed; an error has that, too.
func run(ctx context.Context, argv ...string) (string, error) {
	return start(exec.CommandContext(ctx, argv[0], argv[1:]...))
}

// shell runs a few lines of shell until one fails.
func shell(ctx context.Context, lines string) (string, error) { return run(ctx, "sh", "-ec", lines) }

// start runs a command to its end.
func start(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text)
	}
	return text, nil
}

// debian is the version of a package.
func debian(ctx context.Context, name string) (string, error) {
	version, err := run(ctx, "dpkg-query", "-W", "-f", "${Version}", name)
	return "Debian's " + name + " " + version, err
}

// module is the version of the module that the main package of a program is in.
func (p *Place) module(ctx context.Context, program, name string) (string, error) {
	out, err := run(ctx, "go", "version", "-m", filepath.Join(p.Bin, program))
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 && (fields[0] == "mod" || fields[0] == "dep") && fields[1] == name {
			return name + " " + fields[2], err
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s is not built from %s", program, name))
}

// until asks until there is no error any more.
func until(ctx context.Context, limit time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// each calls a function with the addresses of a host in both families.
func each(host *lab.Host, port uint16, do func(netip.AddrPort) error) error {
	return errors.Join(
		do(netip.AddrPortFrom(host.Addr(false), port)),
		do(netip.AddrPortFrom(host.Addr(true), port)),
	)
}

// answers returns an error unless a certain server answers TCP.
func (p *Place) answers(ctx context.Context, from *lab.Host, at netip.AddrPort, who string) error {
	a := p.Ask(ctx, from, tcp, at, lab.Wait(3*time.Second))
	if a.Err == nil && a.Who == who {
		return nil
	}
	return fmt.Errorf("%v to %v: %v, want %s", from, at, a, who)
}
