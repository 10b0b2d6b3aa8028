package deploy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	root       = "../.."
	dockerfile = root + "/deploy/Dockerfile"
)

// instructions returns the arguments of all of the Dockerfile's instructions of that name. Lines that end with a
// backslash are joined.
func instructions(t *testing.T, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	var found [][]string
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == name {
			found = append(found, words[1:])
		}
	}
	return found
}

func TestImageCopiesWhatIsThere(t *testing.T) {
	copied := 0
	for _, arguments := range instructions(t, "COPY") {
		if strings.HasPrefix(arguments[0], "--from=") {
			continue
		}
		for _, source := range arguments[:len(arguments)-1] {
			copied++
			if _, err := fs.Stat(os.DirFS(root), filepath.Clean(source)); err != nil {
				t.Errorf("COPY %s: %v", source, err)
			}
		}
	}
	if copied == 0 {
		t.Error("the image is made of nothing from here")
	}
}

// TestImageIsTheReleases: the Dockerfile builds the program as deploy/release does.
func TestImageIsTheReleases(t *testing.T) {
	var code strings.Builder // main.go names the package, build.go has the rest
	for _, name := range []string{"main.go", "build.go"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy/release", name))
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, words := range instructions(t, "RUN") {
		if line := strings.Join(words, " "); strings.Contains(line, "go build") {
			for _, flag := range []string{"-trimpath", "-buildvcs=false", "-s -w -X main.version=", "CGO_ENABLED=0", "./cmd/kube-ipvs"} {
				if !strings.Contains(line, flag) || !strings.Contains(code.String(), flag) {
					t.Errorf("the flag %s is not in both", flag)
				}
			}
			return
		}
	}
	t.Error("the Dockerfile builds nothing")
}

// TestImageBuildsWithOurGo: the image's Go is the one that go.mod asks for.
func TestImageBuildsWithOurGo(t *testing.T) {
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	if version == nil {
		t.Fatal("go.mod asks for no version of Go")
	}
	want := "golang:" + string(version[1]) + "-"
	if images := instructions(t, "FROM"); !strings.HasPrefix(images[0][1], want) {
		t.Errorf("built in %s, want %s", images[0][1], want)
	}
}
