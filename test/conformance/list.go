package main

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// pinned is the list of all tests of SIG Network, each once, under headings:
//
//	## run                             it passes
//	## short                           it passes, within seconds
//	## alone                           it passes if nothing else runs
//	## run on 6 nodes                  it passes on so many nodes
//	## fails with PROXY,...: REASON    it fails with these proxies and passes with the others
//	## left out: REASON                it cannot run here, or shows nothing about a service proxy
//
//go:embed tests.txt
var pinned string

// A test is one test of the suite.
type test struct {
	name    string
	short   bool
	alone   bool   // nothing else may run at the same time
	nodes   int    // how many it asks for; 0: fewNodes
	leftOut string // why it does not run; "" if it does
	fails   string // why it fails with some proxies
	with    []string
}

// expected reports whether the test passes with the proxy.
func (t test) expected(p proxy) bool { return !slices.Contains(t.with, p.name) }

// parseTests reads a list.
func parseTests(text string) ([]test, error) {
	var tests []test
	var errs []error
	var heading test // what the next names are
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		var err error
		switch title, isHeading := strings.CutPrefix(line, "## "); {
		case line == "":
		case isHeading:
			heading, err = parseHeading(title)
		case seen[line]:
			err = errors.New("the test is there twice")
		default:
			seen[line] = true
			t := heading
			t.name = line
			tests = append(tests, t)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w: %s", number, err, line))
		}
	}
	return tests, errors.Join(errs...)
}

func parseHeading(title string) (test, error) {
	kind, reason, _ := strings.Cut(title, ": ")
	many := 0
	_, noCount := fmt.Sscanf(title, "run on %d nodes", &many)
	with, fails := strings.CutPrefix(kind, "fails with ")
	switch {
	case title == "run":
		return test{}, nil
	case title == "short":
		return test{short: true}, nil
	case title == "alone":
		return test{alone: true}, nil
	case noCount == nil && many > fewNodes:
		return test{nodes: many}, nil
	case kind == "left out" && reason != "":
		return test{leftOut: reason}, nil
	case fails && reason != "":
		list, err := proxiesNamed(with)
		t := test{fails: reason}
		for _, p := range list {
			t.with = append(t.with, p.name)
		}
		return t, err
	}
	return test{}, errors.New("no such heading")
}

// choose returns the tests that run: those whose names match focus, of the short ones if short.
func choose(tests []test, focus *regexp.Regexp, short bool) []test {
	return slices.DeleteFunc(slices.Clone(tests), func(t test) bool {
		return t.leftOut != "" || short && !t.short || !focus.MatchString(t.name)
	})
}

// compareNames returns an error that names what the list and the suite do not have in common.
func compareNames(tests []test, suite []string) error {
	var errs []error
	known := map[string]bool{}
	for _, t := range tests {
		known[t.name] = true
		if !slices.Contains(suite, t.name) {
			errs = append(errs, fmt.Errorf("tests.txt has a test that the suite has not: %s", t.name))
		}
	}
	for _, name := range suite {
		if !known[name] {
			errs = append(errs, fmt.Errorf("the suite has a test that tests.txt has not: %s", name))
		}
	}
	return errors.Join(errs...)
}
