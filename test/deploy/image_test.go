package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// TestImageHasThePrograms asks this machine's packages, Debian's like the image's, who brings what the pod runs.
func TestImageHasThePrograms(t *testing.T) {
	programs := []string{"modprobe"}
	for _, kind := range []string{"", "-nft", "-legacy"} {
		for _, use := range []string{"", "-save", "-restore"} {
			programs = append(programs, "iptables"+kind+use, "ip6tables"+kind+use)
		}
	}
	files := map[string][]string{} // programs that are one file, as all kinds of iptables of a backend are
	for _, program := range programs {
		file := fileOf(t, program)
		files[file] = append(files[file], program)
	}
	installed := packages(t)
	for file, programs := range files {
		if owner := packageOf(t, file); !slices.Contains(installed, owner) {
			t.Errorf("%v are of the package %q; the image installs %v", programs, owner, installed)
		}
	}
}

// packages returns what the Dockerfile installs.
func packages(t *testing.T) []string {
	t.Helper()
	for _, words := range instructions(t, "RUN") {
		_, after, found := strings.Cut(strings.Join(words, " "), "apt-get install ")
		if !found {
			continue
		}
		after, _, _ = strings.Cut(after, "&&")
		return slices.DeleteFunc(strings.Fields(after), func(w string) bool { return strings.HasPrefix(w, "-") })
	}
	t.Fatal("the image installs nothing")
	return nil
}

// fileOf returns the path of the program's file, behind links and alternatives.
func fileOf(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// packageOf returns the Debian package that brings the file. What is in /usr/bin may be known as in /bin.
func packageOf(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "--search", "*bin/"+filepath.Base(file)).Output()
	if err != nil {
		t.Fatalf("which package brings %s: %v", file, err)
	}
	owner, _, _ := strings.Cut(string(out), ":")
	return owner
}
