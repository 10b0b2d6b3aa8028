package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"kube-ipvs/internal/see"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestManPages holds docs/man to the commands; -update writes it.
func TestManPages(t *testing.T) {
	const pages = "../../docs/man"
	date := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC) // not the day of the build
	dir := t.TempDir()
	for section, cmd := range map[string]*cobra.Command{"1": see.Plugin(version), "8": command()} {
		cmd.DisableAutoGenTag = true
		if err := doc.GenManTree(cmd, &doc.GenManHeader{Section: section, Source: "kube-ipvs", Manual: "kube-ipvs", Date: &date}, dir); err != nil {
			t.Fatal(err)
		}
	}
	want, got := contents(t, dir), contents(t, pages)
	if len(want) < 4 {
		t.Fatalf("%d pages, which cannot be all", len(want))
	}
	if *update {
		if err := os.RemoveAll(pages); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(pages, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/man is not that of these commands; go test ./cmd/kube-ipvs -update (-want +got):\n%s", diff)
	}
}

// contents returns the files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = string(text)
	}
	return out
}
