package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	"kube-ipvs/test/kept"
)

// A result is what one test had to say about one proxy.
type result struct {
	Test     string
	Program  string // the hash of the program under test: another program's result says nothing
	Commit   string // the last that changed kube-ipvs
	Passed   bool
	Failure  string  // the first line of why not
	Seconds  float64 // of the last attempt
	Attempts int     // the first beside other tests, the second alone
}

// fileName returns a file's name for the test: readable, and no other test's.
func fileName(test string) string {
	sum := sha256.Sum256([]byte(test))
	words := strings.FieldsFunc(strings.TrimPrefix(test, "[sig-network] "), func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	})
	name := strings.Join(words, "-")
	return name[:min(len(name), 100)] + "-" + hex.EncodeToString(sum[:3])
}

func (s setting) resultFile(test string) string {
	return filepath.Join(s.results(), fileName(test)+".json")
}

// load returns the test's result with this program, and whether there is one.
func (s setting) load(test, program string) (result, bool, error) {
	var r result
	err := kept.Read(s.resultFile(test), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return result{}, false, nil
	}
	return r, err == nil && r.Program == program, err
}

func (s setting) save(r result) error { return kept.Write(s.resultFile(r.Test), r) }

// lastCommit returns the short name of the last commit that changed anything but tests and documentation.
func lastCommit(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%h", "--", ".", ":!test", ":!docs", ":!Makefile").Output()
	if err != nil {
		return "", fmt.Errorf("which commit is it? %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
