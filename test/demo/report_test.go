package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParagraph(t *testing.T) {
	var b strings.Builder
	printer{&b}.paragraph("  ", strings.Repeat("seven77 ", 30)+strings.Repeat("x", width+10))
	for i, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if len(l) > width && !strings.Contains(l, "xxx") {
			t.Errorf("line %d has %d characters: %q", i, len(l), l)
		}
	}
	if n := strings.Count(b.String(), "seven77"); n != 30 {
		t.Errorf("%d words of 30", n)
	}
}

// TestReadme shows that README has the beginning of the first case as the demo prints it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	first := scenes()[0]
	text, err := os.ReadFile(filepath.Join("manifests", first.file))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	p := printer{&out}
	p.headline("1. " + first.title)
	p.paragraph("", first.words)
	p.manifest(first.file, essentials(string(text)))
	var want strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(out.String(), "\n")) {
		want.WriteString("    " + line)
	}
	if !strings.Contains(string(readme), want.String()) {
		t.Errorf("README.md does not show, with its first case:\n%s", want.String())
	}
}
