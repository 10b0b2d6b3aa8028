package test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The figures of docs/comparison.md are those of the benchmarks, and its kube-proxy is the one that is built here.
func TestComparison(t *testing.T) {
	page := read(t, "../docs/comparison.md")
	bench := read(t, "../docs/bench.md")
	_, figures, _ := strings.Cut(page, "## In figures")
	found := regexp.MustCompile(`\d[\d.]* (?:s|ms|MiB)\b`).FindAllString(figures, -1)
	if len(found) < 9 {
		t.Errorf("the page has the figures %q, which cannot be all", found)
	}
	for _, figure := range found {
		if !strings.Contains(bench, "| "+figure+" |") {
			t.Errorf("no benchmark has the figure %s", figure)
		}
	}
	var ratios []string
	for _, m := range regexp.MustCompile(`a packet of a connection to a cluster IP, against kube-proxy's ipvs mode \|.*\| ([\d.]+) \|`).FindAllStringSubmatch(read(t, "../docs/instructions.md"), -1) {
		ratios = append(ratios, m[1])
	}
	if want := slices.Min(ratios) + " to " + slices.Max(ratios) + " times"; !strings.Contains(page, want) {
		t.Errorf("a packet costs %s the instructions, which the page does not say", want)
	}
	version := regexp.MustCompile(`k8s.io/kubernetes v(\S+)`).FindStringSubmatch(read(t, "kubernetes/go.mod"))[1]
	if strings.Count(page, version) != 2 {
		t.Errorf("the page is not about kube-proxy %s", version)
	}
}
