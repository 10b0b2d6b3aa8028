package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPinned holds tests.txt against what is asked of it: each test once, and a short choice.
func TestPinned(t *testing.T) {
	tests, err := parseTests(pinned)
	if err != nil {
		t.Fatal(err)
	}
	every := regexp.MustCompile("")
	if n := len(choose(tests, every, false)); n < 120 {
		t.Errorf("%d tests run, which cannot be all", n)
	}
	if n := len(choose(tests, every, true)); n < 10 || n > 25 {
		t.Errorf("%d tests are short ones", n)
	}
}

func TestParseTests(t *testing.T) {
	const good = `## short

[sig-network] A

## run
[sig-network] B
## alone
[sig-network] C
## run on 6 nodes
[sig-network] F
## fails with divert,bind: IPVS cannot
[sig-network] D
## left out: there is no cloud
[sig-network] E
`
	got, err := parseTests(good)
	if err != nil {
		t.Fatal(err)
	}
	want := []test{
		{name: "[sig-network] A", short: true},
		{name: "[sig-network] B"},
		{name: "[sig-network] C", alone: true},
		{name: "[sig-network] F", nodes: 6},
		{name: "[sig-network] D", fails: "IPVS cannot", with: []string{"divert", "bind"}},
		{name: "[sig-network] E", leftOut: "there is no cloud"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(test{})); d != "" {
		t.Error(d)
	}
	for name, text := range map[string]string{
		"a test twice":       "## run\nA\n## short\nA\n",
		"no such heading":    "## never\nA\n",
		"no reason":          "## left out\nA\n",
		"no reason to fail":  "## fails with bind\nA\n",
		"too few nodes":      "## run on 3 nodes\nA\n",
		"no number of nodes": "## run on many nodes\nA\n",
		"no such proxy":      "## fails with nft: because\nA\n",
		"left out, an empty": "## left out: \nA\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseTests(text); err == nil || !strings.Contains(err.Error(), "line ") {
				t.Errorf("error %v, want one that names the line", err)
			}
		})
	}
}

func TestCompareNames(t *testing.T) {
	tests := []test{{name: "A"}, {name: "B", leftOut: "why"}}
	if err := compareNames(tests, []string{"B", "A"}); err != nil {
		t.Error(err)
	}
	err := compareNames(tests, []string{"A", "C"})
	if err == nil || !strings.Contains(err.Error(), "has not: B") || !strings.Contains(err.Error(), "has not: C") {
		t.Errorf("error %v, want B and C named", err)
	}
}

func TestJudge(t *testing.T) {
	p := proxies[0]
	tests := []test{{name: "good"}, {name: "bad"}, {name: "known", with: []string{p.name}}, {name: "better", with: []string{p.name}}}
	results := map[string]result{"good": {Passed: true}, "bad": {Failure: "timed out"}, "known": {}, "better": {Passed: true}}
	err := judge(p, tests, results)
	want := "failed: bad: timed out\npassed, but tests.txt expects a failure: better"
	if err == nil || err.Error() != want {
		t.Errorf("judge:\n%v\nwant\n%s", err, want)
	}
	if err := judge(p, tests[:1], results); err != nil {
		t.Error(err)
	}
}

// TestReport reads what Ginkgo writes of one test among those that were not chosen.
func TestReport(t *testing.T) {
	const frame = `[{"SpecReports":[
		{"LeafNodeType":"BeforeSuite","State":"passed"},
		{"LeafNodeType":"It","State":"skipped"},
		{"LeafNodeType":"It","State":"pending"},
		CHOSEN]}]`
	for name, c := range map[string]struct {
		chosen string
		want   result
		err    bool
	}{
		"passed":  {`{"LeafNodeType":"It","State":"passed","RunTime":2500000000}`, result{Passed: true, Seconds: 2.5}, false},
		"failed":  {`{"LeafNodeType":"It","State":"failed","RunTime":1000000000,"Failure":{"Message":"no\nwhy"}}`, result{Seconds: 1, Failure: "failed: no"}, false},
		"refused": {`{"LeafNodeType":"It","State":"skipped","Failure":{"Message":"two nodes"}}`, result{Failure: "skipped: two nodes"}, false},
		"before":  {`{"LeafNodeType":"SynchronizedBeforeSuite","State":"failed","Failure":{"Message":"no nodes"}}`, result{Failure: "failed: no nodes"}, false},
		"none":    {`{"LeafNodeType":"It","State":"skipped"}`, result{}, true},
		"two":     {`{"LeafNodeType":"It","State":"passed"},{"LeafNodeType":"It","State":"passed"}`, result{Passed: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report.json")
			if err := os.WriteFile(path, []byte(strings.Replace(frame, "CHOSEN", c.chosen, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := readReport(path, result{})
			if d := cmp.Diff(c.want, got); d != "" || (err != nil) != c.err {
				t.Errorf("error %v\n%s", err, d)
			}
		})
	}
}

// TestResultsOfAnotherProgram: a result is as good as the program that it is about.
func TestResultsOfAnotherProgram(t *testing.T) {
	s := setting{state: t.TempDir()}
	if err := os.Mkdir(s.results(), 0o755); err != nil {
		t.Fatal(err)
	}
	saved := result{Test: "[sig-network] Services should | work", Program: "1", Passed: true, Seconds: 3}
	if _, known, err := s.load(saved.Test, "1"); known || err != nil {
		t.Errorf("before it ran: %v %v", known, err)
	}
	if err := s.save(saved); err != nil {
		t.Fatal(err)
	}
	got, known, err := s.load(saved.Test, "1")
	if got != saved || !known || err != nil {
		t.Errorf("%+v %v %v", got, known, err)
	}
	if _, known, err := s.load(saved.Test, "2"); known || err != nil {
		t.Errorf("of another program: %v %v", known, err)
	}
}

// TestPage shows a page with each kind of result.
func TestPage(t *testing.T) {
	tests := []test{
		{name: "[sig-network] A [Slow]"}, {name: "[sig-network] B", with: []string{"divert"}, fails: "IPVS cannot"},
		{name: "[sig-network] C"}, {name: "[sig-network] D", leftOut: "there is no cloud"},
	}
	columns := []column{
		{proxies[0], map[string]result{
			tests[0].name: {Passed: true, Seconds: 3, Attempts: 1, Commit: "b2"}, tests[1].name: {Failure: "refused", Commit: "b2"},
			tests[2].name: {Failure: "timed out", Commit: "a1"},
		}},
		{proxies[2], map[string]result{tests[0].name: {Passed: true, Seconds: 9, Attempts: 2}}},
	}
	rolled := []replacement{{From: "ipvs", Commit: "b2",
		In: seen{"cluster IP": {Held: 7, New: 90, Late: 1, Longest: 1200 * time.Millisecond}, "node port": {Held: 1}, "pod, tcp": {Held: 2, New: 5}},
	}}
	got := page(tests, columns, rolled)
	for _, want := range []string{
		"| divert | a1, b2 | 1 | 2 | 0 |\n", "| kube-proxy, iptables | 1.37.2 | 1 | 0 | 2 |\n", "1 tests are left out",
		"- B, divert: IPVS cannot\n", "- C, divert: not expected: timed out\n",
		"| kube-proxy, ipvs | kube-ipvs | b2 | 8 | 0 | 90 | 0 | 1 | 1.2 s | 2, 0 | 5, 0, 0 |\n",
		`| A \[Slow] | 3 s | 9 s, alone |` + "\n", "| C | **failed** | not run |\n", "1: there is no cloud\n\n- D\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}

// TestVersion holds the version on the page against the modules that the programs are built from.
func TestVersion(t *testing.T) {
	for _, module := range []string{"../kubernetes/go.mod", "programs/go.mod"} {
		text, err := os.ReadFile(module)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`k8s.io/kubernetes v` + regexp.QuoteMeta(kubernetesVersion) + `\b`).Match(text) {
			t.Errorf("%s asks for another version of Kubernetes than %s", module, kubernetesVersion)
		}
	}
}

func TestNodes(t *testing.T) {
	n := numbered(3)
	if got := texts(n.addresses) + " " + texts(n.pods); got != "172.30.0.13/24,fd00:172:30::13/64 10.244.3.0/24,fd00:10:244:3::/64" {
		t.Error(got)
	}
}
