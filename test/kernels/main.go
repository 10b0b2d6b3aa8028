// Command kernels runs a choice of tests on several versions of Linux, with both kinds of iptables, on one CPU and on two, and on arm64,
// in the emulated machine, and writes docs/kernels.md.
//
//	kernels [-only PATTERN] -bin .bin -docs docs
//
// It goes on where it was broken off: what one cell of the table showed is a file, and holds for the program that was tested. What
// failed is run again. With -only, just the cells whose names match are run, anew.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// A linux is a version of Linux, as a suite of Debian has it for an architecture.
type linux struct{ suite, name, arch string }

var linuxes = []linux{
	{"bullseye", "5.10", "amd64"}, {"bookworm", "6.1", "amd64"}, {"trixie", "6.12", "amd64"}, {"trixie-backports", "the newest", "amd64"},
	{"trixie", "6.12", "arm64"},
}

// String names the files of a Linux and of its cells.
func (l linux) String() string {
	if l.arch == "amd64" {
		return l.suite
	}
	return l.suite + "-" + l.arch
}

// A machine is what the tests run on.
type machine struct {
	linux
	cpus   int
	legacy bool // iptables' legacy tables
}

func (m machine) tables() string {
	if m.legacy {
		return "legacy"
	}
	return "nft"
}

// A column of the table is a few tests of test/packet.
type column struct {
	name    string
	run     string // a pattern of tests' names
	isShort bool   // few minutes: it runs on all machines
}

var columns = []column{
	{name: "packet matrix", run: "TestTruth$/divert", isShort: true},
	{name: "circumstances", run: "TestCircumstancesOfMarks$/divert"},
	{name: "survival", run: "TestRestart$|TestOtherHands$/divert/(the_IPVS_table_is_flushed|a_set_is_flushed|all_tables_are_flushed|everything_is_removed)"},
	{name: "drains", run: "TestDrain$"},
}

// A cell is a column's tests on a machine.
type cell struct {
	machine
	column
}

// String names the cell, and its files.
func (c cell) String() string {
	return fmt.Sprintf("%v-%s-%d-%s", c.linux, c.tables(), c.cpus, strings.ReplaceAll(c.column.name, " ", "-"))
}

// machines are two for each Linux: what most nodes have, and what differs from that in both. Of arm64 the first will do.
func machines() (out []machine) {
	for _, l := range linuxes {
		out = append(out, machine{l, 2, false})
		if l.arch == "amd64" {
			out = append(out, machine{l, 1, true})
		}
	}
	return out
}

// cells returns those of a machine.
func (m machine) cells() (out []cell) {
	for _, c := range columns {
		if m.has(c) {
			out = append(out, cell{m, c})
		}
	}
	return out
}

// has reports whether a column's tests run on a machine.
func (m machine) has(c column) bool { return c.isShort || !m.legacy }

type options struct {
	bin, docs string
	only      *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", ".bin", "the `directory` of all programs, kernels and results")
	flag.StringVar(&o.docs, "docs", "docs", "the `directory` of the page")
	only := flag.String("only", "", "run only the cells whose names match this `pattern`, anew: bullseye-nft-2-drains")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		err = o.runAll(ctx, *only != "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// runAll runs all cells that have not passed yet, and writes the page after each.
func (o options) runAll(ctx context.Context, anew bool) error {
	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if err := os.MkdirAll(o.results(), 0o755); err != nil {
		return err
	}
	var failed []error
	for _, m := range machines() {
		for _, c := range m.cells() {
			r, known, err := o.load(c)
			if err != nil {
				return err
			}
			if o.only.MatchString(c.String()) && (anew || !known || !r.Passed) {
				if r, err = o.run(ctx, c); err != nil {
					return fmt.Errorf("%v: %w", c, err)
				}
				known = true
			}
			if known && !r.Passed {
				failed = append(failed, fmt.Errorf("%v failed: %s", c, o.log(c)))
			}
			if err := o.writePage(); err != nil {
				return err
			}
		}
	}
	return errors.Join(failed...)
}

// run runs a cell's tests and keeps what they showed.
func (o options) run(ctx context.Context, c cell) (result, error) {
	folder := o.linux(c)
	fetch := exec.CommandContext(ctx, "test/linux", folder, c.suite, c.arch)
	fetch.Stdout, fetch.Stderr = os.Stdout, os.Stderr
	if err := fetch.Run(); err != nil {
		return result{}, fmt.Errorf("fetch its kernel: %w", err)
	}
	log, err := os.Create(o.log(c))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	const limit = "25m"
	args := []string{"-kernel=qemu", "-timeout=" + limit, "-linux=" + folder, "-arch=" + c.arch, fmt.Sprintf("-cpus=%d", c.cpus), fmt.Sprintf("-legacy=%t", c.legacy),
		o.program(c), "-test.v", "-test.timeout=" + limit, "-test.run=" + c.column.run}
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "inkernel"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join("test", "packet"), log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	begin := time.Now()
	ended := cmd.Run()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r, err := o.read(c, ended == nil, time.Since(begin))
	fmt.Printf("%v: %v\n", c, r)
	return r, errors.Join(err, o.save(c, r))
}
