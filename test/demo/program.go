package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/test/child"
)

// How long the program may take: to start, and until the table shows a change. On an idle machine it takes two seconds and
// a few tenths of one; a draining connection adds four seconds.
const (
	patience = time.Minute
	settling = 20 * time.Second
)

// pause is the time between two looks at something that is waited for.
const pause = 100 * time.Millisecond

// A program is kube-ipvs on a folder of manifests.
type program struct{ *child.Program }

func newProgram(path, manifests string) (*program, error) {
	log, err := os.CreateTemp(memory, "kube-ipvs-log-")
	if err != nil {
		return nil, err
	}
	return &program{&child.Program{Path: path, Log: log.Name(), Args: []string{
		"--mode=ipvs", "--manifests=" + manifests, "--hostname-override=" + node,
		"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--drain-limit=2s", "--healthz-bind-address=" + child.Healthz,
	}}}, log.Close()
}

// command returns the program's command line.
func (p *program) command() string {
	return filepath.Base(p.Path) + " " + strings.Join(p.Args, " ")
}

// start starts the program and returns when it is healthy and everything in its folder is programmed.
func (p *program) start(ctx context.Context) error {
	began := time.Now()
	if err := p.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.Until(ctx, pause, func() bool { return child.Healthy(ctx) && child.Synced(ctx, began) })
}

// close ends the program and forgets its log.
func (p *program) close() error { return errors.Join(p.Stop(), os.Remove(p.Log)) }
