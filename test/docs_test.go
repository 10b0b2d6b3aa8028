package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
)

// Tests and scenarios that the documentation names exist: tests by their names in backquotes, scenarios by the names of their
// files after "scenario" or "scenarios".
func TestDocsNameTestsThatExist(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs(t) {
		text := read(t, doc)
		for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which does not exist", doc, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`scenarios? ([a-z0-9-]+(?:, [a-z0-9-]+)*)[;.| ]`).FindAllStringSubmatch(text, -1) {
			for name := range strings.SplitSeq(m[1], ", ") {
				if _, err := os.Stat(filepath.Join("scenario/testdata", name+".txtar")); err != nil {
					t.Errorf("%s names a scenario that does not exist: %v", doc, err)
				}
			}
		}
	}
}

// docs returns the pages of the documentation.
func docs(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("docs: %v %v", docs, err)
	}
	return append(docs, "../README.md", "scenario/README.md")
}

// Chains, sets, metrics, flags and targets of make that the documentation names exist.
func TestDocsNameWhatExists(t *testing.T) {
	chains := map[string]bool{}
	for _, c := range ipvsmode.Rules(ipvsmode.RulesConfig{Marks: ipvsmode.MarksFor(14)}, inet.IPv4).Chains {
		chains[c.Name] = true
	}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		for _, s := range ipvsmode.SetsOf(f).All() {
			chains[s.Name] = true
		}
	}
	var product []string
	for _, s := range sources(t) {
		if !s.test && s.in("cmd", "sync") {
			product = append(product, s.name)
		}
	}
	for _, names := range []struct {
		of    string
		by    string // the first group is a name
		there map[string]bool
	}{
		{"chain or set", `\b(KIPVS(?:-[A-Z0-9]+)+)\b(?:[^-]|$)`, chains},
		{"metric", `\b(kube_ipvs_[a-z_]*[a-z])\b(?:[^_*]|$)`, all(t, `"(kube_ipvs_\w+)"`, product...)},
		{"flag", "`(--[a-z0-9-]+)[`= ]", all(t, "(?m)^\\| `(--[a-z0-9-]+)` \\|", "../docs/flags.md")},
		{"target", "(?m)(?:`|^    )make ([a-z]+)", all(t, `(?m)^([a-z]+):`, "../Makefile")},
	} {
		if len(names.there) < 5 {
			t.Errorf("%s: %v cannot be all that there are", names.of, names.there)
		}
		for _, doc := range docs(t) {
			for name := range all(t, names.by, doc) {
				if !names.there[name] {
					t.Errorf("%s names the %s %s, which does not exist", doc, names.of, name)
				}
			}
		}
	}
}

// all returns what the first group of an expression matches in files.
func all(t *testing.T, expression string, files ...string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, file := range files {
		for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(read(t, file), -1) {
			out[m[1]] = true
		}
	}
	return out
}
