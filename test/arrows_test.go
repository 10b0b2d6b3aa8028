// Package test keeps what no compiler does: which way packages may import each other, and how long a file or a function may
// be.
package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "kube-ipvs"

// A source is one Go file of this module.
type source struct {
	dir     string // from the root of the repository: "sync/plan"
	name    string
	test    bool
	imports []string
	lines   int
	longest function
}

type function struct {
	name  string
	lines int
}

// sources parses all Go files of the module; test/kubernetes and what else has a go.mod is a module of its own.
func sources(t *testing.T) []source {
	t.Helper()
	root := ".."
	var out []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || isFile(filepath.Join(name, "go.mod"))) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		s, err := parse(name)
		s.dir = filepath.ToSlash(strings.TrimPrefix(filepath.Dir(name), root+"/"))
		out = append(out, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("%d files found, which cannot be all", len(out))
	}
	return out
}

func isFile(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func parse(name string) (source, error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{name: name, test: strings.HasSuffix(name, "_test.go"), lines: files.File(f.Pos()).LineCount()}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return s, err
		}
		s.imports = append(s.imports, imported)
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := files.Position(fn.End()).Line - files.Position(fn.Pos()).Line + 1; n > s.longest.lines {
			s.longest = function{fn.Name.Name, n}
		}
	}
	return s, nil
}

// in says that a file is in one of these folders or below.
func (s source) in(dirs ...string) bool { return under(s.dir, dirs...) }

func under(name string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") })
}

// An arrow is what the files of some folders may import. Tests are held to it too, unless it says otherwise.
type arrow struct {
	name  string
	of    func(source) bool
	wrong func(imported string) bool
}

// kernel are the kernel's parts.
var kernel = []string{"ipvs", "ipset", "iptables", "internal/netlink"}

func TestArrows(t *testing.T) {
	product := func(s source) bool { return !s.in("test") && !s.test }
	arrows := []arrow{
		{
			name:  "the kernel's parts know nothing of ours but internal",
			of:    func(s source) bool { return product(s) && s.in(kernel...) },
			wrong: func(i string) bool { return isOurs(i) && !under(strings.TrimPrefix(i, module+"/"), "internal") },
		},
		{
			name: "only the kernel's parts use internal/netlink",
			of: func(s source) bool {
				return !s.in("internal/netlink") && !slices.Contains([]string{"ipvs", "ipvs/conntrack", "ipset", "ipvs/steering", "iptables"}, s.dir)
			},
			wrong: func(i string) bool { return i == module+"/internal/netlink" },
		},
		{
			name:  "the kernel's parts know nothing of Kubernetes",
			of:    func(s source) bool { return s.in(kernel...) },
			wrong: func(i string) bool { return strings.HasPrefix(i, "k8s.io/") || strings.HasPrefix(i, "sigs.k8s.io/") },
		},
		{
			name:  "the configuration knows nothing of ours",
			of:    func(s source) bool { return s.in("internal/config") },
			wrong: isOurs,
		},
		{
			name:  "the page knows nothing of ours: it passes requests on",
			of:    func(s source) bool { return s.in("internal/page") },
			wrong: isOurs,
		},
		{
			name:  "only the program knows its configuration",
			of:    func(s source) bool { return product(s) && !s.in("cmd") },
			wrong: func(i string) bool { return i == module+"/internal/config" },
		},
		{
			name: "the plan knows nothing of ours but the leaf, and values only",
			of:   func(s source) bool { return s.in("sync/plan") },
			wrong: func(i string) bool {
				return isOurs(i) && i != module+"/internal/inet" || strings.HasPrefix(i, "k8s.io/")
			},
		},
		{
			name: "the plan is pure",
			of:   func(s source) bool { return product(s) && s.in("sync/plan") },
			wrong: func(i string) bool {
				return slices.Contains([]string{"context", "log", "log/slog", "os", "net", "io", "sync"}, i)
			},
		},
		{
			name:  "tables know nothing of ours",
			of:    func(s source) bool { return s.in("sync/delta") },
			wrong: func(i string) bool { return isOurs(i) && i != module+"/sync/delta" }, // its example imports it
		},
		{
			name:  "the engine knows nothing of ours but tables",
			of:    func(s source) bool { return s.in("sync/reconcile") },
			wrong: func(i string) bool { return isOurs(i) && i != module+"/sync/delta" },
		},
		{
			name:  "only sync/kube knows client-go",
			of:    func(s source) bool { return product(s) && !s.in("sync/kube") },
			wrong: func(i string) bool { return strings.HasPrefix(i, "k8s.io/client-go") },
		},
		{
			name: "the loop knows the plan and no mode, and not where Services come from",
			of:   func(s source) bool { return product(s) && s.in("sync/loop") },
			wrong: func(i string) bool {
				return isOurs(i) && !slices.Contains([]string{"internal/inet", "sync/plan", "sync/reconcile"}, strings.TrimPrefix(i, module+"/")) || strings.HasPrefix(i, "k8s.io/api")
			},
		},
		{
			name:  "only modes and the program import the kernel's parts", // but sync/node, which leaves the addresses on our link out
			of:    func(s source) bool { return product(s) && s.in("sync") && !s.in("sync/ipvsmode", "sync/node") },
			wrong: func(i string) bool { return isOurs(i) && under(strings.TrimPrefix(i, module+"/"), kernel...) },
		},
		{
			name: "what shows kube-ipvs knows what it answers, and no kernel",
			of:   func(s source) bool { return product(s) && s.in("internal/see", "internal/cli", "cmd/kubectl-ipvs") },
			wrong: func(i string) bool {
				known := []string{"internal/see", "internal/cli", "sync/status", "sync/loop", "sync/kube/remote"}
				return isOurs(i) && !slices.Contains(known, strings.TrimPrefix(i, module+"/"))
			},
		},
		{
			name: "a mode does not know where Services come from",
			of:   func(s source) bool { return product(s) && s.in("sync/ipvsmode") },
			wrong: func(i string) bool {
				return strings.HasPrefix(i, module+"/sync/") && !slices.Contains([]string{"sync/plan", "sync/delta", "sync/reconcile", "sync/loop"}, strings.TrimPrefix(i, module+"/")) ||
					strings.HasPrefix(i, "k8s.io/api")
			},
		},
		{
			name:  "nothing imports the tests or the program",
			of:    func(s source) bool { return !s.in("test") },
			wrong: func(i string) bool { return isOurs(i) && under(strings.TrimPrefix(i, module+"/"), "test", "cmd") },
		},
		{
			name:  "who starts a program does not know what is in it",
			of:    func(s source) bool { return s.in("test/child") },
			wrong: isOurs,
		},
		{
			name:  "programs are started by iptables and the program itself only",
			of:    func(s source) bool { return product(s) && !s.in("cmd", "iptables") },
			wrong: func(i string) bool { return i == "os/exec" },
		},
	}
	for _, a := range arrows {
		t.Run(a.name, func(t *testing.T) {
			held := false
			for _, s := range sources(t) {
				if !a.of(s) {
					continue
				}
				held = true
				for _, i := range s.imports {
					if a.wrong(i) {
						t.Errorf("%s imports %s", strings.TrimPrefix(s.name, "../"), i)
					}
				}
			}
			if !held {
				t.Error("holds for no file, which cannot be")
			}
		})
	}
}

func isOurs(imported string) bool { return strings.HasPrefix(imported, module+"/") }

// kubectl's plugin runs wherever kubectl does: nothing that it is made of is the kernel's, or lacks files for another system. That they
// compile is for "make lint" to say: it takes longer.
func TestPluginIsForAllSystems(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/kubectl-ipvs")
			cmd.Dir, cmd.Env = "..", append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s/%s: %v\n%s", system, arch, err, out)
			}
			for name := range strings.Lines(string(out)) {
				if name = strings.TrimSpace(name); isOurs(name) && under(strings.TrimPrefix(name, module+"/"), kernel...) {
					t.Errorf("%s/%s: it is made of %s, too", system, arch, name)
				}
			}
		}
	}
}

// sync is the standard library's name; ours is a folder and no package.
func TestSyncIsNoPackage(t *testing.T) {
	for _, s := range sources(t) {
		if path.Clean(s.dir) == "sync" {
			t.Errorf("%s is in a package that hides the standard library's", s.name)
		}
	}
}

// What is longer cannot be read at one go.
func TestLengths(t *testing.T) {
	const mostLines, longest = 400, 70
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if s.lines > mostLines {
			t.Errorf("%s has %d lines, more than %d", s.name, s.lines, mostLines)
		}
		if s.longest.lines > longest {
			t.Errorf("%s: %s has %d lines, more than %d", s.name, s.longest.name, s.longest.lines, longest)
		}
	}
}
