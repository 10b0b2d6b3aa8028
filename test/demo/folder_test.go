package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/plan"
)

// A sink waits for a source.
type sink struct{ synced func() }

func (s sink) Synced()                  { s.synced() }
func (sink) ServiceChanged(plan.Name)   {}
func (sink) EndpointsChanged(plan.Name) {}
func (sink) NodeChanged()               {}

// TestManifests plays all changes of the folder and lets the product read it after each: every word of it must be one that
// it understands.
func TestManifests(t *testing.T) {
	f := folder{from: "manifests", dir: t.TempDir()}
	put := []string{"cluster.yaml"}
	for i, sc := range append([]scene{{title: "Start", file: "cluster.yaml"}}, scenes()...) {
		if sc.file != "" {
			if err := f.put(sc.file); err != nil {
				t.Fatal(err)
			}
		}
		if i > 0 && sc.file != "" {
			put = append(put, sc.file)
			text, err := os.ReadFile(filepath.Join(f.from, sc.file))
			if err != nil {
				t.Fatal(err)
			}
			if lines := essentials(string(text)); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  clusterIP") }) {
				t.Errorf("%s: what is shown of %s lacks the address: %q", sc.title, sc.file, lines)
			}
		}
		for _, e := range sc.edits {
			if err := f.change(e); err != nil {
				t.Fatalf("%s: %v", sc.title, err)
			}
		}
		if problems := problemsOf(t, f.dir); len(problems) > 0 {
			t.Errorf("%s: %v", sc.title, problems)
		}
	}
	all, err := filepath.Glob("manifests/*.yaml")
	if err != nil || len(all) != len(put) {
		t.Errorf("%d manifests are used, of %d (%v)", len(put), len(all), err)
	}
}

// problemsOf returns what the product does not understand of a folder.
func problemsOf(t *testing.T, dir string) []plan.Problem {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	source := manifest.New(dir, node, sink{stop}, nil)
	if err := source.Run(ctx); ctx.Err() != context.Canceled {
		t.Fatalf("read %s: %v", dir, err)
	}
	problems := source.Problems()
	for _, name := range source.Names() {
		svc, slices, _ := source.Service(name)
		problems = append(problems, svc.Problems...)
		for _, s := range slices {
			problems = append(problems, s.Problems...)
		}
	}
	return problems
}
