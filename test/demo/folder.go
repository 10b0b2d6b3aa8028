package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A folder is the folder that the program watches, and where its manifests come from.
type folder struct{ from, dir string }

// memory is where temporary files are: a file system in memory. The one that user-mode Linux shares with the machine tells
// nobody about changes.
const memory = "/run"

// newFolder makes an empty folder.
func newFolder(from string) (folder, error) {
	dir, err := os.MkdirTemp(memory, "manifests-")
	return folder{from, dir}, err
}

func (f folder) remove() error { return os.RemoveAll(f.dir) }

// put copies a manifest into the folder.
func (f folder) put(name string) error {
	text, err := os.ReadFile(filepath.Join(f.from, name))
	if err != nil {
		return err
	}
	return f.write(name, string(text))
}

// change carries out an edit.
func (f folder) change(e edit) error {
	text, err := os.ReadFile(filepath.Join(f.dir, e.file))
	if err != nil {
		return err
	}
	changed, err := e.apply(string(text))
	if err != nil {
		return err
	}
	return f.write(e.file, changed)
}

// apply returns the text of a manifest after the edit.
func (e edit) apply(text string) (string, error) {
	if n := strings.Count(text, e.old); n != 1 {
		return "", fmt.Errorf("%s: %q is in it %d times, want once", e.file, e.old, n)
	}
	return strings.Replace(text, e.old, e.new, 1), nil
}

// write replaces a file in one step, as an editor does: nobody reads half of it.
func (f folder) write(name, text string) error {
	draft := filepath.Join(f.dir, "."+name)
	if err := os.WriteFile(draft, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(draft, filepath.Join(f.dir, name))
}

// essentials returns what matters of a Service's manifest: the lines of its spec, but for the labels of its pods, which a
// proxy does not look at.
func essentials(text string) []string {
	service, _, _ := strings.Cut(text, "\n---\n")
	_, spec, _ := strings.Cut(service, "\nspec:\n")
	return slices.DeleteFunc(strings.Split(strings.TrimRight(spec, "\n"), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "  selector:")
	})
}
