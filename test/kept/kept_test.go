package kept

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKept(t *testing.T) {
	type result struct {
		Name  string
		Right int
	}
	file := filepath.Join(t.TempDir(), "result.json")
	var got result
	if err := Read(file, &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is no file: %v", err)
	}
	want := result{"matrix", 3168}
	if err := Write(file, want); err != nil {
		t.Fatal(err)
	}
	if err := Read(file, &got); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Read(file, &got); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("half a file: %v, want its name", err)
	}
}

func TestHash(t *testing.T) {
	dir := t.TempDir()
	hashes := map[string]string{}
	for name, content := range map[string]string{"one": "a", "same": "a", "other": "b"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if hashes[name], err = Hash(file); err != nil || hashes[name] == "" {
			t.Fatalf("%s: %q, %v", name, hashes[name], err)
		}
	}
	if hashes["one"] != hashes["same"] || hashes["one"] == hashes["other"] {
		t.Errorf("hashes %v", hashes)
	}
	if _, err := Hash(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}
