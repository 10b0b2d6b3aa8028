// Command conformance runs Kubernetes' own end-to-end tests of SIG Network against kube-ipvs, and against kube-proxy as the
// reference, on a bed without containers and images: see README.md. It is started in the root of the repository, by root:
//
//	go run ./test/conformance [-proxies divert,bind,iptables] [-focus REGEXP] [-short | -rolling] [-parallel N] [-docs FOLDER]
//
// make conformance builds the programs first. Tests that have a result with the same program are not run again, unless a focus
// asks for them: what was broken off goes on. The exit status is 1 if a test did anything but what tests.txt says.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"kube-ipvs/test/kept"

	"golang.org/x/sys/unix"
)

// options is what the command line asked for.
type options struct {
	bin, state, docs string
	proxies          []proxy
	focus            *regexp.Regexp
	focused          bool
	short            bool
	rolling          bool
	parallel         int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if err := command(os.Args[1:])(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// command returns the work of this process: the whole, or a part of the bed.
func command(args []string) func(context.Context) error {
	parts := map[string]func(context.Context, []string) error{"nodes": runNodes, "outside": runOutside, "probe": runProbe}
	if len(args) > 0 && parts[args[0]] != nil {
		return func(ctx context.Context) error { return parts[args[0]](ctx, args[1:]) }
	}
	return func(ctx context.Context) error {
		o, err := parse(args)
		if err != nil {
			return err
		}
		return o.run(ctx)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", ".bin", "`folder` of programs, which make builds")
	flags.StringVar(&o.state, "state", ".bin/e2e", "`folder` of results and logs; without it, everything runs anew")
	flags.StringVar(&o.docs, "docs", "", "`folder` in which to write conformance.md")
	names := flags.String("proxies", "divert,bind,iptables", "`names` of what to test, one after the other; none: write the page alone")
	focus := flags.String("focus", "", "run the tests whose names match the `regexp`, also those that have a result")
	flags.BoolVar(&o.short, "short", false, "run the short tests alone")
	flags.BoolVar(&o.rolling, "rolling", false, "run no tests, but replace kube-proxy by kube-ipvs on one node after the other, and back")
	flags.IntVar(&o.parallel, "parallel", 3, "`number` of tests that run at the same time")
	err := flags.Parse(args)
	if err != nil {
		return o, err
	}
	if o.focus, err = regexp.Compile(*focus); err != nil {
		return o, err
	}
	o.focused = *focus != ""
	if o.proxies, err = proxiesNamed(*names); err != nil {
		return o, err
	}
	for _, path := range []*string{&o.bin, &o.state} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	return o, nil
}

// run tests the proxies one after the other, then writes the page.
func (o options) run(ctx context.Context) error {
	tests, err := parseTests(pinned)
	if err != nil {
		return fmt.Errorf("tests.txt: %w", err)
	}
	if o.rolling {
		return errors.Join(o.replaceAll(ctx), o.writePage(tests))
	}
	suite, err := listSuite(ctx, filepath.Join(o.bin, "e2e.test"))
	if err != nil {
		return err
	}
	if err := compareNames(tests, suite); err != nil {
		return err
	}
	var errs []error
	for _, p := range o.proxies {
		if ctx.Err() != nil {
			break
		}
		if err := o.test(ctx, p, choose(tests, o.focus, o.short)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(append(errs, o.writePage(tests))...)
}

// test runs those tests with one proxy that have no result yet, and returns an error that names what went otherwise than
// tests.txt says.
func (o options) test(ctx context.Context, p proxy, tests []test) (err error) {
	s := setting{bin: o.bin, state: filepath.Join(o.state, p.name), name: p.name}
	program, err := kept.Hash(filepath.Join(o.bin, p.program))
	if err != nil {
		return err
	}
	var missing []test
	results := map[string]result{}
	for _, t := range tests {
		r, known, err := s.load(t.name, program)
		if err != nil {
			return err
		}
		if results[t.name] = r; !known || o.focused {
			missing = append(missing, t)
		}
	}
	fmt.Printf("%s: %d tests, of which %d are to run\n", p.name, len(tests), len(missing))
	if len(missing) > 0 {
		fresh, err := o.runMissing(ctx, s, program, missing)
		if err != nil {
			return err
		}
		for _, r := range fresh {
			results[r.Test] = r
		}
	}
	return judge(p, tests, results)
}

// runMissing runs the tests on a bed with few nodes, then those that ask for more.
func (o options) runMissing(ctx context.Context, s setting, program string, tests []test) (results []result, err error) {
	commit, err := lastCommit(ctx)
	if err != nil {
		return nil, err
	}
	byCount := map[int][]test{}
	for _, t := range tests {
		n := cmp.Or(t.nodes, fewNodes)
		byCount[n] = append(byCount[n], t)
	}
	for _, s.count = range slices.Sorted(maps.Keys(byCount)) {
		r := run{program: program, commit: commit}
		done, err := o.runOn(ctx, s, &r, byCount[s.count])
		if results = append(results, done...); err != nil {
			return results, err
		}
	}
	return results, nil
}

// runOn runs the tests on one bed.
func (o options) runOn(ctx context.Context, s setting, r *run, tests []test) (results []result, err error) {
	start := time.Now()
	b, err := startBed(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("%s: the cluster of %d nodes is up after %.0f s\n", s.name, s.count, time.Since(start).Seconds())
	r.bed = b
	results, err = r.all(ctx, tests, o.parallel)
	return results, errors.Join(err, b.crashes(ctx))
}

// judge returns an error that names each test whose result is not the expected one.
func judge(p proxy, tests []test, results map[string]result) error {
	var errs []error
	for _, t := range tests {
		switch r := results[t.name]; {
		case !r.Passed && t.expected(p):
			errs = append(errs, fmt.Errorf("failed: %s: %s", t.name, r.Failure))
		case r.Passed && !t.expected(p):
			errs = append(errs, fmt.Errorf("passed, but tests.txt expects a failure: %s", t.name))
		}
	}
	return errors.Join(errs...)
}
