package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kube-ipvs/test/kept"
)

// A result is what a cell's tests showed.
type result struct {
	Program string // the hash of what was tested: another one's result says nothing
	Release string // of the kernel
	Date    string
	Passed  bool
	Tests   int // that passed
	Failed  []string
	Cells   int // of the packet matrix that were right
	Asked   int
	Seconds float64
}

// String returns the result as the table has it.
func (r result) String() string {
	words := fmt.Sprintf("%d tests", r.Tests)
	if r.Asked > 0 {
		words = fmt.Sprintf("%d of %d", r.Cells, r.Asked)
	}
	switch {
	case r.Passed:
		return words
	case len(r.Failed) == 0:
		return "**did not end**; " + words
	}
	return words + "; **failed:** " + strings.Join(r.Failed, ", ")
}

func (o options) results() string     { return filepath.Join(o.bin, "kernels.results") }
func (o options) log(c cell) string   { return filepath.Join(o.results(), c.String()+".log") }
func (o options) file(c cell) string  { return filepath.Join(o.results(), c.String()+".json") }
func (o options) linux(c cell) string { return filepath.Join(o.bin, "linux-"+c.linux.String()) }

// program is what is tested, built for the cell's architecture.
func (o options) program(c cell) string { return filepath.Join(o.bin, c.arch, "packet.test") }

var (
	// leaf is a test, or a case of one.
	leaf     = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL): (\S+) `)
	asked    = regexp.MustCompile(`(\d+) cells, (\d+) right`)
	releases = regexp.MustCompile(`vmlinuz-(.*)$`)
)

// read reads the result from the log.
func (o options) read(c cell, passed bool, took time.Duration) (result, error) {
	r := result{Passed: passed, Seconds: took.Round(time.Second).Seconds(), Date: time.Now().UTC().Format(time.DateOnly)}
	kernels, err := filepath.Glob(filepath.Join(o.linux(c), "boot", "vmlinuz-*"))
	if err != nil {
		return r, err
	}
	if len(kernels) != 1 {
		return r, fmt.Errorf("%d kernels of %v", len(kernels), c.linux)
	}
	if r.Program, err = kept.Hash(o.program(c)); err != nil {
		return r, err
	}
	r.Release = releases.FindStringSubmatch(kernels[0])[1]
	text, err := os.ReadFile(o.log(c))
	if err != nil {
		return r, err
	}
	r.Tests, r.Failed = outcomes(string(text))
	for _, m := range asked.FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(m[1]) // they are digits
		right, _ := strconv.Atoi(m[2])
		r.Asked, r.Cells = r.Asked+n, r.Cells+right
	}
	return r, nil
}

// outcomes returns how many tests passed and the names of those that failed, of tests with cases only the cases.
func outcomes(log string) (passed int, failed []string) {
	all := leaf.FindAllStringSubmatch(log, -1)
	hasCases := map[string]bool{}
	for _, m := range all {
		for name := m[2]; strings.Contains(name, "/"); {
			name = name[:strings.LastIndex(name, "/")]
			hasCases[name] = true
		}
	}
	for _, m := range all {
		switch {
		case hasCases[m[2]]:
		case m[1] == "PASS":
			passed++
		default:
			failed = append(failed, m[2])
		}
	}
	return passed, failed
}

// load returns a cell's result, and whether there is one for the programs as they are now.
func (o options) load(c cell) (r result, known bool, err error) {
	err = kept.Read(o.file(c), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	program, err := kept.Hash(o.program(c)) // kube-ipvs is a part of the tests
	return r, r.Program == program, err
}

func (o options) save(c cell, r result) error { return kept.Write(o.file(c), r) }
