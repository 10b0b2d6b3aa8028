package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/child"
	"kube-ipvs/test/lab"
)

// The hosts of the laboratory.
const (
	node   = "node1"
	asker  = "asker"
	client = "client"
)

// echoes are the pods that answer, at this port, over TCP and UDP.
var echoes = [...]string{"echo-1", "echo-2", "echo-3"}

const echoPort = 8080

// A stage is what the scenes are played on.
type stage struct {
	lab     *lab.Lab
	folder  folder
	program *program
	out     printer
	kept    map[string]*lab.Conn // connections that stay open, by who has them and where to
	results []result
}

// newStage builds the laboratory, does what strangers did there before, and starts the program without any Service.
func newStage(ctx context.Context, o options, out io.Writer) (s *stage, err error) {
	s = &stage{out: printer{out}, kept: map[string]*lab.Conn{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.lab, err = lab.New(lab.Config{Pods: []string{echoes[0], echoes[1], asker}, RemotePods: []string{echoes[2]}})
	if err != nil {
		return s, err
	}
	if err := s.serve(); err != nil {
		return s, err
	}
	for _, command := range strangers() {
		if _, err := shell(ctx, command); err != nil {
			return s, err
		}
	}
	if s.folder, err = newFolder(o.manifests); err != nil {
		return s, err
	}
	if err := s.folder.put("cluster.yaml"); err != nil {
		return s, err
	}
	if s.program, err = newProgram(o.program, s.folder.dir); err != nil {
		return s, err
	}
	if err := s.program.start(ctx); err != nil {
		return s, errors.Join(err, s.program.LastWords())
	}
	return s, nil
}

func (s *stage) serve() error {
	for _, pod := range echoes {
		for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
			if _, err := s.lab.Serve(s.lab.Pod(pod), proto, echoPort, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stage) close() error {
	var errs []error
	if s.program != nil {
		errs = append(errs, s.program.close())
	}
	for _, conn := range s.kept {
		errs = append(errs, conn.Close())
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	return errors.Join(append(errs, s.folder.remove())...)
}

// host returns a host by its name.
func (s *stage) host(name string) *lab.Host {
	switch name {
	case node:
		return s.lab.Node
	case client:
		return s.lab.Client
	}
	return s.lab.Pod(name)
}

// name returns the name of the host with an address, or the address.
func (s *stage) name(a netip.Addr) string {
	for _, name := range append(echoes[:], asker, node, client) {
		if s.host(name).Addr(a.Is6()) == a {
			return name
		}
	}
	return a.String()
}

// change changes the folder and the program as the scene says.
func (s *stage) change(ctx context.Context, sc scene) error {
	if sc.file != "" {
		text, err := os.ReadFile(filepath.Join(s.folder.from, sc.file))
		if err != nil {
			return err
		}
		s.out.manifest(sc.file, essentials(string(text)))
		if err := s.folder.put(sc.file); err != nil {
			return err
		}
	}
	for _, e := range sc.edits {
		s.out.edit(e)
		if err := s.folder.change(e); err != nil {
			return err
		}
	}
	if sc.do == nil {
		return nil
	}
	s.out.command(sc.do.shown)
	return sc.do.run(ctx, s)
}

// await waits until the table is as the scene wants it, and returns what it shows of the scene's virtual servers. It is
// false if that does not happen.
func (s *stage) await(ctx context.Context, want []server, since time.Time) ([]string, bool, error) {
	for {
		listing, err := shell(ctx, "ipvsadm -Ln")
		if err = errors.Join(err, s.program.Alive()); err != nil {
			return nil, false, err
		}
		lines, right := cut(parse(listing, s.name), want)
		right = right && (!s.program.Runs() || child.Synced(ctx, since))
		if right || time.Since(since) > settling {
			return lines, right, nil
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// cut cuts the wanted virtual servers out of a table, and says whether all are as wanted.
func cut(table []listed, want []server) (lines []string, right bool) {
	right = true
	for _, w := range want {
		found, ok := find(table, w)
		lines = append(lines, found.lines...)
		right = right && ok && found.is(w)
	}
	return lines, right
}

// shell runs a command line and returns what it prints.
func shell(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(complaint.String()))
	}
	return string(out), err
}
