package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

// A scenario is one file of testdata: objects, then changes, and what the kernel is to hold. README.md says what may stand
// in it.
type scenario struct {
	path    string
	archive *txtar.Archive
	flags   flags
	steps   []step // the first is the start
}

// A step is what happens at once.
type step struct {
	suffix      string // of its sections: "" for the start, "-1", "-2"
	objects     objects
	addresses   string // the node's, if they change
	byHand      []command
	connections []connection
	wait        time.Duration
	restart     bool
}

// Objects are the documents that the API server holds, by kind, namespace and name.
type objects map[string]string

// scenarios reads all files of testdata.
func scenarios(t *testing.T) []*scenario {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var out []*scenario
	for _, path := range paths {
		s, err := read(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, s)
	}
	return out
}

func (s *scenario) name() string { return strings.TrimSuffix(filepath.Base(s.path), ".txtar") }

func read(path string) (*scenario, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &scenario{path: path, archive: txtar.Parse(content)}
	if len(bytes.TrimSpace(s.archive.Comment)) == 0 {
		return nil, fmt.Errorf("no comment says what the situation is")
	}
	if err := s.unknown(); err != nil {
		return nil, err
	}
	if s.flags, err = parseFlags(s.section("flags")); err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	before := objects{}
	for n := 0; n == 0 || s.hasStep(n); n++ {
		next, err := s.step(n, before)
		if err != nil {
			return nil, err
		}
		s.steps = append(s.steps, next)
		before = next.objects
	}
	return s, nil
}

// Sections by their name without the number of the step: those that say what happens, and those that say what is to be.
var (
	happens = []string{"change.yaml", "delete", "addresses", "by-hand", "connections", "wait", "restart"}
	expects = []string{"ipvs", "sets", "ledger", "routes", "problems", "health", "ops"}
)

// unknown returns an error for a section that means nothing.
func (s *scenario) unknown() error {
	for _, f := range s.archive.Files {
		name := strings.TrimSuffix(f.Name, ".yaml")
		base, number, numbered := cutLast(name)
		if numbered {
			if n, err := strconv.Atoi(number); err == nil && n > 0 && s.hasStep(n) {
				name = base
			}
		}
		if strings.HasSuffix(f.Name, ".yaml") {
			name += ".yaml"
		}
		if name != "objects.yaml" && name != "flags" && !slices.Contains(happens, name) && !slices.Contains(expects, name) {
			return fmt.Errorf("section %q means nothing", f.Name)
		}
	}
	return nil
}

func cutLast(name string) (base, number string, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// hasStep says that a section says what happens in a step.
func (s *scenario) hasStep(n int) bool {
	return slices.ContainsFunc(happens, func(name string) bool {
		_, ok := s.find(numbered(name, fmt.Sprintf("-%d", n)))
		return ok
	})
}

// numbered is a section's name in a step.
func numbered(name, suffix string) string {
	if base, ok := strings.CutSuffix(name, ".yaml"); ok {
		return base + suffix + ".yaml"
	}
	return name + suffix
}

func (s *scenario) find(name string) (string, bool) {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

func (s *scenario) section(name string) string {
	text, _ := s.find(name)
	return text
}

func (s *scenario) step(n int, before objects) (step, error) {
	out := step{objects: before}
	changed := "objects.yaml"
	if n > 0 {
		out.suffix = fmt.Sprintf("-%d", n)
		changed = numbered("change.yaml", out.suffix)
	}
	section := func(name string) string { return s.section(numbered(name, out.suffix)) }
	var err error
	if out.objects, err = before.with(s.section(changed), section("delete")); err != nil {
		return out, fmt.Errorf("%s: %w", changed, err)
	}
	if out.byHand, err = parseCommands(section("by-hand")); err != nil {
		return out, fmt.Errorf("by-hand%s: %w", out.suffix, err)
	}
	if out.connections, err = parseConnections(section("connections")); err != nil {
		return out, fmt.Errorf("connections%s: %w", out.suffix, err)
	}
	if wait := strings.TrimSpace(section("wait")); wait != "" {
		if out.wait, err = time.ParseDuration(wait); err != nil {
			return out, err
		}
	}
	out.addresses = strings.TrimSpace(section("addresses"))
	_, out.restart = s.find("restart" + out.suffix)
	return out, nil
}

// with returns the objects after a change and deletions, one a line, such as "Service default/web".
func (o objects) with(change, deleted string) (objects, error) {
	out := objects{}
	for id, doc := range o {
		out[id] = doc
	}
	for doc := range strings.SplitSeq(change, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		id, err := identify(doc)
		if err != nil {
			return nil, err
		}
		out[id] = doc
	}
	for line := range lines(deleted) {
		if _, ok := out[line]; !ok {
			return nil, fmt.Errorf("no %s to delete", line)
		}
		delete(out, line)
	}
	return out, nil
}

func identify(doc string) (string, error) {
	var o struct {
		Kind     string
		Metadata struct{ Namespace, Name string }
	}
	if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
		return "", err
	}
	if o.Metadata.Namespace == "" {
		o.Metadata.Namespace = "default"
	}
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name), nil
}

// lines yields the lines of a text that say something.
func lines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" && !yield(line) {
				return
			}
		}
	}
}

// expect writes what was found into the scenario, for -update. Sections of steps are written if they are there; those of
// the start and the operations always, unless there is nothing to write.
func (s *scenario) expect(suffix string, found map[string]string) {
	for _, name := range expects {
		_, there := s.find(name + suffix)
		always := name == "ops" || suffix == "" && name != "ledger"
		if there || always && found[name] != "" {
			s.put(name+suffix, found[name])
		}
	}
}

// put sets a section; a new one goes behind the last of its step.
func (s *scenario) put(name, text string) {
	at := 0
	for i, f := range s.archive.Files {
		if f.Name == name {
			s.archive.Files[i].Data = []byte(text)
			return
		}
		if stepOf(f.Name) <= stepOf(name) {
			at = i + 1
		}
	}
	s.archive.Files = slices.Insert(s.archive.Files, at, txtar.File{Name: name, Data: []byte(text)})
}

// stepOf returns the number of the step that a section belongs to.
func stepOf(name string) int {
	_, number, _ := cutLast(strings.TrimSuffix(name, ".yaml"))
	n, _ := strconv.Atoi(number)
	return n
}

func (s *scenario) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.path, txtar.Format(s.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
