package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// longest is more than any test takes on a busy machine; the longest was seen to take 35 minutes.
const longest = time.Hour

// A run is the tests of one proxy on one bed.
type run struct {
	*bed
	program string // hash of the proxy's program
	commit  string
	total   int

	mu   sync.Mutex
	done []result
}

// all runs the tests, some at the same time, then those that want to be alone and those that failed, one by one: on a slow
// machine a test can run out of its time because of its neighbours.
func (r *run) all(ctx context.Context, tests []test, parallel int) ([]result, error) {
	r.total = len(tests)
	var together, alone []test
	for _, t := range tests {
		if t.alone || parallel == 1 {
			alone = append(alone, t)
		} else {
			together = append(together, t)
		}
	}
	again, err := r.together(ctx, together, parallel)
	if err != nil {
		return r.done, err
	}
	for _, t := range append(alone, again...) {
		attempt := 1
		if !t.alone && parallel > 1 {
			attempt = 2
		}
		if err := r.one(ctx, t, attempt); err != nil {
			return r.done, err
		}
	}
	return r.done, nil
}

// together runs the tests, as many at a time as parallel says, and returns those to run again.
func (r *run) together(ctx context.Context, tests []test, parallel int) (again []test, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan test)
	var workers sync.WaitGroup
	var mu sync.Mutex
	for range parallel {
		workers.Go(func() {
			for t := range next {
				result, err := r.attempt(ctx, t, 1)
				if err != nil {
					cancel(err)
					return
				}
				if result.Passed || !t.expected(r.mustProxy()) {
					err = r.finish(result)
				} else {
					mu.Lock()
					again = append(again, t)
					mu.Unlock()
					fmt.Printf("        failed %5.0f s  %s: %s; again, alone, at the end\n", result.Seconds, t.name, result.Failure)
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, t := range tests {
		select {
		case next <- t:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
	return again, context.Cause(ctx)
}

func (r *run) mustProxy() proxy {
	p, err := r.proxy()
	if err != nil {
		panic(err) // the bed was started with it
	}
	return p
}

func (r *run) one(ctx context.Context, t test, attempt int) error {
	result, err := r.attempt(ctx, t, attempt)
	if err != nil {
		return err
	}
	return r.finish(result)
}

// finish saves a test's last result and prints it.
func (r *run) finish(result result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, result)
	word := "passed"
	if !result.Passed {
		word = "FAILED"
	}
	fmt.Printf("%3d/%d %s %5.0f s  %s\n", len(r.done), r.total, word, result.Seconds, result.Test)
	if !result.Passed {
		fmt.Printf("        %s\n        log: %s\n", result.Failure, r.logFile(result.Test, result.Attempts))
	}
	return r.save(result)
}

func (s setting) logFile(test string, attempt int) string {
	return filepath.Join(s.logs(), fmt.Sprintf("%s.%d.log", fileName(test), attempt))
}

// attempt runs a test once. An error means that there is no result.
func (r *run) attempt(ctx context.Context, t test, attempt int) (result, error) {
	log, err := os.Create(r.logFile(t.name, attempt))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	report := strings.TrimSuffix(log.Name(), ".log") + ".report.json"
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := r.cluster.Command(filepath.Join(r.bin, "e2e.test"),
		"--ginkgo.focus=^Kubernetes e2e suite "+regexp.QuoteMeta(t.name)+"$", "--ginkgo.json-report="+report,
		"--ginkgo.no-color", "--ginkgo.v", "--provider=skeleton", "--kubeconfig="+r.kubeconfig(),
		"--kubectl-path="+filepath.Join(r.bin, "kubectl"), fmt.Sprintf("--num-nodes=%d", r.count), "--disable-log-dump",
		"--dump-logs-on-failure=false", "--node-os-distro=debian")
	cmd.Stdout, cmd.Stderr = log, log
	if err := runUntil(ctx, cmd, r.down); err != nil {
		return result{}, err
	}
	select {
	case <-r.down:
		return result{}, r.lastWords()
	default:
	}
	res, err := readReport(report, result{Test: t.name, Program: r.program, Commit: r.commit, Attempts: attempt})
	return res, errors.Join(err, os.Remove(report)) // it is large, as it has all the tests that were not chosen
}

// runUntil runs the command to its end, which comes early if the context's does or the bed is down. How the command ended
// is in the report that it wrote.
func runUntil(ctx context.Context, cmd *exec.Cmd, down <-chan struct{}) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-down:
	case <-ctx.Done():
	}
	cmd.Process.Kill()
	<-ended
	return ctx.Err()
}

// readReport completes the result with what Ginkgo's report says of the only test that ran.
func readReport(path string, r result) (result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	var suites []struct {
		SpecReports []struct {
			LeafNodeType string
			State        string
			RunTime      time.Duration
			Failure      struct{ Message string }
		}
	}
	if err := json.Unmarshal(text, &suites); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	ran := 0
	for _, s := range suites {
		for _, spec := range s.SpecReports {
			switch {
			case spec.State == "skipped" && spec.Failure.Message == "", spec.State == "pending":
				continue // not chosen
			case spec.LeafNodeType == "It":
				ran++
				r.Passed = spec.State == "passed"
				r.Seconds = spec.RunTime.Seconds()
			case spec.State == "passed":
				continue // what runs before and after all tests
			}
			if spec.State != "passed" && r.Failure == "" {
				r.Failure, _, _ = strings.Cut(spec.State+": "+strings.TrimSpace(spec.Failure.Message), "\n")
			}
		}
	}
	if ran != 1 && r.Failure == "" {
		return r, fmt.Errorf("%s: %d tests ran instead of one", path, ran)
	}
	return r, nil
}
