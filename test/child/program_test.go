package child

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "-part" {
		bePart()
		return
	}
	goleak.VerifyTestMain(m)
}

// shell is a program that says that it is there, and then does as told.
func shell(t *testing.T, script string) *Program {
	p := &Program{Path: "/bin/sh", Args: []string{"-c", "echo here; " + script}, Log: filepath.Join(t.TempDir(), "log")}
	live(t, p, 1)
	return p
}

// live starts a program and waits until it has said so many times that it is there.
func live(t *testing.T, p *Program, times int) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	there := func() bool { return strings.Count(p.LastWords().Error(), "here") == times }
	if err := p.Until(t.Context(), time.Millisecond, there); err != nil && !there() {
		t.Fatal(err)
	}
}

func TestProgram(t *testing.T) {
	tests := []struct {
		name, script string
		end          func(*Program) error
		want         string // in the error; "": none
	}{
		{"stopped", "trap 'exit 0' TERM; while :; do sleep 0.01; done", (*Program).Stop, ""},
		{"stopped, and it minds", "trap 'exit 3' TERM; while :; do sleep 0.01; done", (*Program).Stop, "exit status 3"},
		{"killed", "while :; do sleep 0.01; done", (*Program).Kill, ""},
		{"waited for, and it ends", "exit 4", ended, "sh has ended by itself\nexit status 4"},
		{"waited for too long", "exec sleep 100", tooLong, "wait for sh: context deadline exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := shell(t, tt.script)
			err := tt.end(p)
			if said := message(err); said != tt.want {
				t.Errorf("said %q, want %q", said, tt.want)
			}
			if p.Runs() {
				t.Error("it runs")
			}
		})
	}
}

func ended(p *Program) error {
	err := p.Until(context.Background(), time.Millisecond, func() bool { return false })
	p.Stop()
	return err
}

func tooLong(p *Program) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	err := p.Until(ctx, time.Millisecond, func() bool { return false })
	p.Kill()
	return err
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A program lives as often as one wants, and its log has it all.
func TestLives(t *testing.T) {
	p := shell(t, "exec sleep 100")
	for times := range 3 {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		live(t, p, times+2)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
}
